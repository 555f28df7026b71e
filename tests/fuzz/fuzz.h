/* tests/fuzz/fuzz.h - what libFuzzer calls of a target. */
#ifndef ISTHMUS_FUZZ_H
#define ISTHMUS_FUZZ_H

#include <stddef.h>
#include <stdint.h>

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n);
int LLVMFuzzerInitialize(int *argc, char ***argv);

#endif
