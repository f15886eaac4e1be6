// What follows a layer in a folded network, done while its output lies in the cache.
#pragma once
#include "pixels.h"

// ReLU(y + shortcut), or one of the two, or nothing.
struct Ending {
    const float *shortcut = nullptr;  // (N, H, W, C), as the output
    long activates = false;
    const float *out = nullptr;  // (N, H, W, C)

    // Of pixels of the output that lie one behind the other.
    void finish(Pixels y, long pixels) const {
        by_lanes(y.stride, [&](auto lanes) {
            constexpr int L = decltype(lanes)::value;
            long floats = pixels * y.stride;
            const float *from = shortcut ? shortcut + (y.data - out) : nullptr;
            if (shortcut && activates)
                change<L>(y.data, floats, [&](long at, Vec<L> value) { return relu<L>(value + load<L>(from + at)); });
            else if (shortcut)
                change<L>(y.data, floats, [&](long at, Vec<L> value) { return value + load<L>(from + at); });
            else if (activates)
                change<L>(y.data, floats, [&](long, Vec<L> value) { return relu<L>(value); });
        });
    }

  private:
    template <int L>
    static Vec<L> relu(Vec<L> value) {
        return value < 0 ? Vec<L>{} : value;  // what is no number stays none
    }

    template <int L, class Function>
    static void change(float *data, long floats, Function function) {
        for (long at = 0; at < floats; at += L) store<L>(data + at, function(at, load<L>(data + at)));
    }
};
