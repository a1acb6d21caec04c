/* GCC before 12.4 and 13.3 tells the optimiser of _tile_loadconfig that 8 bytes are read of the 64 (GCC bug 114098), drops
 * the stores to the rest, and llama.cpp's AMX kernels crash. Included before llama.cpp's own files when it is compiled. */
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
#include <immintrin.h>
#undef _tile_loadconfig
#define _tile_loadconfig(config) __asm__ volatile("ldtilecfg %0" : : "m"(*(const char(*)[64])(config)))
#endif
