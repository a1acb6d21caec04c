/* Compiled by GCC 12, llama.cpp's AMX kernels crashed where they load the tile configuration: it seems that GCC's
 * _tile_loadconfig does not say that all 64 bytes are read. Included before llama.cpp's own files when it is compiled. */
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
#include <immintrin.h>
#undef _tile_loadconfig
#define _tile_loadconfig(config) __asm__ volatile("ldtilecfg %0" : : "m"(*(const char(*)[64])(config)))
#endif
