/* Formatted output on the environment's console: %s %u %d %x %p, %U for 64-bit unsigned, %%. */
#pragma once
void print(const char *format, ...);
