// The logistic function, of a vector and of a number.
#pragma once
#include <cmath>

#include "pixels.h"
#ifdef __AVX512F__
#include <immintrin.h>
#endif

template <int L>
using Bits __attribute__((vector_size(L * sizeof(unsigned)), aligned(sizeof(unsigned)), may_alias)) = unsigned;

// e^x for x between −87 and 87, as 2^n·e^r with |r| ≤ ln 2/2 and a Taylor polynomial, exact to 3e-7 of the value.
template <int L>
inline Vec<L> exponential(Vec<L> x) {
    constexpr float to_integer = 0x1.8p23f;  // a sum with it has no room for a fraction
    Vec<L> shifted = x * 1.44269504f + to_integer, r = x - (shifted - to_integer) * 0.693147181f;
    Vec<L> sum = r * (1 / 5040.f) + 1 / 720.f;
    for (float factor : {1 / 120.f, 1 / 24.f, 1 / 6.f, 0.5f, 1.f, 1.f}) sum = sum * r + factor;
    return (Vec<L>)((Bits<L>)sum + ((Bits<L>)shifted << 23));  // n is in the last bits, the exponent above 23
}

// 1/x for x between 1 and 1e38; a division takes as long as all the rest of a sigmoid.
template <int L>
inline Vec<L> reciprocal(Vec<L> x) {
#ifdef __AVX512F__
    if constexpr (L == 16) {
        Vec<L> guess = (Vec<L>)_mm512_maskz_rcp14_ps(0xffff, (__m512)x);
        return guess + guess * (1 - x * guess);
    }
#endif
    return 1 / x;
}

// 1/(1 + e^−x); beyond ±87 what it is there.
template <int L>
inline Vec<L> sigmoid(Vec<L> x) {
    const Vec<L> most = Vec<L>{} + 87, least = -most;
    x = x < least ? least : x;
    return reciprocal<L>(1 + exponential<L>(-(x > most ? most : x)));
}

// The same of a number, and zero where it is so small that products with it would be subnormal: those take a processor
// a hundred times as long, and add nothing.
inline float sigmoid(float x) {
    return x < -64 ? 0 : 1 / (1 + std::exp(-x));
}
