/* ENSURE stays on in release. It is for our mistakes, never for input, disk or network. */
#pragma once

#define ENSURE(x) ((x) ? (void)0 : ensure_failed(#x, __FILE__, __LINE__))

__attribute__((noreturn)) void ensure_failed(const char *what, const char *file, int line);
