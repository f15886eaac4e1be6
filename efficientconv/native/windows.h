// Where a layer strides: the pixels of each window of s×s side by side, and the means of the channels behind them.
#pragma once
#include "groups.h"

// `images` are those of windows. The first `kept` channels of x keep all pixels, in the order (group, row, column,
// channel), the others their mean.
struct Windows {
    Images images;
    long rows, columns, in, kept, groups;
    long pixels() const { return rows * columns; }
    long rest() const { return in - kept; }
    long out() const { return pixels() * kept + rest(); }

    // The pixel i of a window that begins at x.
    Pixels pixel(const float *x, long i) const {
        return {x + (i / columns * images.width * columns + i % columns) * in, in};
    }

    // Calls with the first pixel of each window and its place among them.
    template <class Function>
    void for_each(const float *x, const float *y, Function function) const {
#pragma omp parallel for schedule(static) num_threads(images.threads)
        for (long row = 0; row < images.number * images.height; row++)
            for (long p = 0; p < images.width; p++)
                function(x + (row * rows * images.width + p) * columns * in, Pixels(y, out())[row * images.width + p]);
    }

    // Calls with each run of channels that stay together: floats behind those of a pixel, and behind those of a window.
    template <class Function>
    void for_runs(long i, long length, Function function) const {
        long each = kept / groups;
        for (long g = 0; g < groups; g++)
            for (long c = 0; c < each; c += length) function(g * each + c, (g * pixels() + i) * each + c);
    }
};

// (N, s·H, s·W, in) → (N, H, W, out).
template <int L>
void gather(const Windows &windows, const float *x, float *y) {
    windows.for_each(x, y, [&](const float *from, float *to) {
        for (long i = 0; i < windows.pixels(); i++)
            windows.for_runs(
                i, L, [&](long here, long there) { store<L>(to + there, load<L>(windows.pixel(from, i)[0] + here)); });
        for (long c = 0; c < windows.rest(); c += 8) {
            Vec<8> sum = {};
            for (long i = 0; i < windows.pixels(); i++) sum += load<8>(windows.pixel(from, i)[0] + windows.kept + c);
            store<8>(to + windows.pixels() * windows.kept + c, sum / (float)windows.pixels());
        }
    });
}

// Its gradient.
template <int L>
void scatter(const Windows &windows, const float *by_y, float *by_x) {
    windows.for_each(by_x, by_y, [&](const float *to, const float *from) {
        for (long i = 0; i < windows.pixels(); i++) {
            float *pixel = windows.pixel(to, i)[0];
            windows.for_runs(i, L, [&](long here, long there) { store<L>(pixel + here, load<L>(from + there)); });
            for (long c = 0; c < windows.rest(); c += 8)
                store<8>(pixel + windows.kept + c,
                         load<8>(from + windows.pixels() * windows.kept + c) / (float)windows.pixels());
        }
    });
}
