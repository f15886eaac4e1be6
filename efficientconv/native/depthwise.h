// Depthwise convolutions of one row, and the gradient of their kernels.
#pragma once
#include "image.h"

// The pixels that the first tap reads for a row of outputs, and how many pixels lie from one output to the next.
struct Sources {
    Pixels first;
    Taps taps;
    long channels, step;

    Sources(const Padded &x, long r, long step = 1)
        : first(x.tap(r, 0)), taps(x.taps()), channels(x.depth), step(step) {}
};

// finish(p, c, start(p, c) + Σ weight[tap]·x[tap]) for the outputs of a row; weight: (taps, channels).
template <int L, class Start, class Finish>
void depthwise(const Sources &x, long width, const float *weight, Start start, Finish finish) {
    long next = x.step * x.first.stride;
    for (long c = 0; c < x.channels; c += L)
        by_pixels(width, [&](auto pixels, long p) {
            constexpr int R = decltype(pixels)::value;
            Vec<L> sum[R];
            const float *first = x.first.data + p * next + c;
#pragma GCC unroll 8
            for (int i = 0; i < R; i++) sum[i] = start(p + i, c);
            for (long tap = 0; tap < x.taps.number; tap++) {
                Vec<L> factor = load<L>(weight + tap * x.channels + c);
#pragma GCC unroll 8
                for (int i = 0; i < R; i++) sum[i] += factor * load<L>(first + x.taps.at[tap] + i * next);
            }
#pragma GCC unroll 8
            for (int i = 0; i < R; i++) finish(p + i, c, sum[i]);
        });
}

// The gradients of T taps' weights, (taps, channels), for a row of the gradient of the outputs.
template <int L, int T>
inline void add_tap_gradients(const Sources &x, Pixels by_y, long width, long tap, long c, float *by_weight) {
    Vec<L> sum[T][2] = {};
    const float *from[T];
    for (int t = 0; t < T; t++) from[t] = x.first.data + x.taps.at[tap + t] + c;
    long next = x.step * x.first.stride, p = 0;
    auto add = [&](int i, long p) {
        Vec<L> by = load<L>(by_y[p] + c);
#pragma GCC unroll 4
        for (int t = 0; t < T; t++) sum[t][i] += by * load<L>(from[t] + p * next);
    };
    for (; p + 2 <= width; p += 2) add(0, p), add(1, p + 1);
    if (p < width) add(0, p);
    for (int t = 0; t < T; t++) {
        float *to = by_weight + (tap + t) * x.channels + c;
        store<L>(to, load<L>(to) + (sum[t][0] + sum[t][1]));
    }
}

// The same of all taps: what is loaded of the outputs' gradient serves three.
template <int L>
void add_depthwise_gradient(const Sources &x, Pixels by_y, long width, float *by_weight) {
    for (long c = 0; c < x.channels; c += L) {
        long tap = 0;
        for (; tap + 3 <= x.taps.number; tap += 3) add_tap_gradients<L, 3>(x, by_y, width, tap, c, by_weight);
        for (; tap < x.taps.number; tap++) add_tap_gradients<L, 1>(x, by_y, width, tap, c, by_weight);
    }
}

// A module's kernels, (channels, taps), turned by half a circle for the gradient of x: (taps, channels).
inline Vector turned_depthwise(const float *weight, long channels, long taps) {
    Vector turned(taps * channels);
    for (long at = 0; at < taps * channels; at++) turned[(taps - 1 - at % taps) * channels + at / taps] = weight[at];
    return turned;
}
