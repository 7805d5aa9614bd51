/* The guest's command line: words of the form name=value; others are ignored. */
#pragma once

/* Where the value of a word begins (it ends at a space or at the line's end); null when there is none. */
const char *option(const char *name);
