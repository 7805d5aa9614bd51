/* The guest cannot go on: says why and ends it as failed. */
#pragma once
_Noreturn void panic(const char *why);
