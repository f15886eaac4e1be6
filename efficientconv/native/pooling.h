// Where a layer strides: the average over each window of s×s pixels, and the first pixel of each.
#pragma once
#include "image.h"

struct Stride {
    long rows, columns;
    long pixels() const { return rows * columns; }
};

// The first pixels of the windows of row r of an image; `images` are those that come out.
inline Pixels strided_row(const Images &images, const Stride &stride, const float *x, long channels, long n, long r) {
    long row = (n * images.height + r) * stride.rows;
    return {x + row * images.width * stride.columns * channels, channels * stride.columns};
}

// (N, s·H, s·W, C) → (N, H, W, C).
template <int L>
void pool(const Images &images, const Stride &stride, const float *x, long channels, float *pooled) {
    long next = images.width * stride.columns * channels;
#pragma omp parallel for schedule(static) num_threads(images.threads)
    for (long row = 0; row < images.number * images.height; row++) {
        Pixels from = strided_row(images, stride, x, channels, 0, row),
               to(pooled + row * images.width * channels, channels);
        for (long p = 0; p < images.width; p++)
            for (long c = 0; c < channels; c += L) {
                Vec<L> sum = {};
                for (long i = 0; i < stride.pixels(); i++)
                    sum += load<L>(from[p] + i / stride.columns * next + i % stride.columns * channels + c);
                store<L>(to[p] + c, sum / (float)stride.pixels());
            }
    }
}

// The gradient of x: that of its average, and for the first pixel of each window, `taken`, (N, H, W, C'), besides.
template <int L>
void back_through_pool(const Images &images, const Stride &stride, const float *by_pooled, const float *by_taken,
                       long taken, long channels, float *by_x) {
    long next = images.width * stride.columns * channels;
#pragma omp parallel for schedule(static) num_threads(images.threads)
    for (long row = 0; row < images.number * images.height; row++) {
        Pixels from(by_pooled + row * images.width * channels, channels);
        Pixels first(by_taken + row * images.width * taken, taken);
        Pixels to = strided_row(images, stride, by_x, channels, 0, row);
        for (long p = 0; p < images.width; p++) {
            for (long i = 0; i < stride.pixels(); i++)
                for (long c = 0; c < channels; c += L)
                    store<L>(to[p] + i / stride.columns * next + i % stride.columns * channels + c,
                             load<L>(from[p] + c) / (float)stride.pixels());
            for (long c = 0; c < taken; c += 8) store<8>(to[p] + c, load<8>(to[p] + c) + load<8>(first[p] + c));
        }
    }
}
