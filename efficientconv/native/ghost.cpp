// GhostConv's pair of convolutions as one operator: y = [intrinsic; ghosts], of half of the channels each.
//
// The intrinsic channels of an image go from one convolution to the other while they lie in the processor's cache, and
// both halves are written where they belong. The backward pass reads the intrinsic channels, which the forward pass
// keeps, and again takes an image through both convolutions at once.
#include "ghost_primary.h"
#include "norm.h"

namespace {

// The parameters or their gradients, each as its module has it.
struct Parameters {
    float *primary, *primary_bias, *cheap, *cheap_bias;  // (half, in, rows, columns), (half,), (half, taps), (half,)
};

// A depthwise convolution of one row: finish(p, c, start(p, c) + Σ weight[tap]·x[tap]).
template <int L, class Start, class Finish>
void depthwise(const Padded &x, long r, const float *weight, Start start, Finish finish) {
    Taps taps = x.taps();
    for (long c = 0; c < x.depth; c += L)
        by_pixels(x.images.width, [&](auto pixels, long p) {
            constexpr int R = decltype(pixels)::value;
            Vec<L> sum[R];
            const float *first = x.tap(r, 0)[p] + c;
#pragma GCC unroll 8
            for (int i = 0; i < R; i++) sum[i] = start(p + i, c);
            for (long tap = 0; tap < taps.number; tap++) {
                Vec<L> factor = load<L>(weight + tap * x.depth + c);
#pragma GCC unroll 8
                for (int i = 0; i < R; i++) sum[i] += factor * load<L>(first + taps.at[tap] + i * x.depth);
            }
#pragma GCC unroll 8
            for (int i = 0; i < R; i++) finish(p + i, c, sum[i]);
        });
}

// The intrinsic channels are scaled and shifted behind the ghosts' back: by a norm behind the layer.
struct Output {
    const float *scale, *shift;  // (half,)
    float *kept;                 // the intrinsic channels for the backward pass, (N, H, W, half), or null
    float *y;                    // (N, H, W, out)
    Ending ending;
};

template <int L>
void forward_row(const Layer &layer, const float *cheap, const float *cheap_bias, const Padded &intrinsic, long r,
                 const Output &output, long first) {
    Pixels from = intrinsic.row(r), y(output.y + first * layer.out(), layer.out());
    for (long p = 0; p < layer.images.width; p++)
        for (long c = 0; c < layer.half; c += L)
            store<L>(y[p] + c, load<L>(from[p] + c) * load<L>(output.scale + c) + load<L>(output.shift + c));
    if (output.kept) std::copy_n(from.data, layer.images.width * layer.half, output.kept + first * layer.half);
    depthwise<L>(
        intrinsic, r, cheap, [&](long, long c) { return load<L>(cheap_bias + c); },
        [&](long p, long c, Vec<L> ghost) { store<L>(y[p] + layer.half + c, ghost); });
    output.ending.finish(y, layer.images.width);
}

template <int L, class Primary>
void forward_images(const Layer &layer, const Primary &primary, const float *cheap, const float *cheap_bias,
                    const float *x, const Output &output) {
    const Images &images = layer.images;
#pragma omp parallel num_threads(images.threads)
    {
        typename Primary::Room room(primary);
        Padded intrinsic(images, layer.cheap(), layer.half);
#pragma omp for schedule(static)
        for (long n = 0; n < images.number; n++) {
            room.read(layer, x + n * layer.input().pixels() * layer.in);
            primary.forward(room, intrinsic);
            for (long r = 0; r < images.height; r++)
                forward_row<L>(layer, cheap, cheap_bias, intrinsic, r, output, (n * images.height + r) * images.width);
        }
    }
}

// The gradients of the weights, for each chunk; of the primary ones in the order of its passes.
struct ByWeights {
    Vector primary, primary_bias, cheap, cheap_bias;

    ByWeights(const Layer &layer, long weights)
        : primary(CHUNKS * weights), primary_bias(CHUNKS * layer.half),
          cheap(CHUNKS * layer.cheap().taps() * layer.half), cheap_bias(CHUNKS * layer.half) {}

    Parameters of_chunk(long chunk) {
        auto at = [&](Vector &chunks) { return chunks.data() + chunk * (chunks.size() / CHUNKS); };
        return {at(primary), at(primary_bias), at(cheap), at(cheap_bias)};
    }

    template <class Primary>
    void sum_into(const Layer &layer, const Primary &of, const Parameters &by) {
        for (Vector *chunks : {&primary, &primary_bias, &cheap, &cheap_bias}) sum_chunks(*chunks);
        of.store_gradient(primary.data(), by.primary);
        Vector taps = transposed(cheap.data(), layer.cheap().taps(), layer.half);
        std::copy(taps.begin(), taps.end(), by.cheap);
        std::copy_n(primary_bias.data(), layer.half, by.primary_bias);
        std::copy_n(cheap_bias.data(), layer.half, by.cheap_bias);
    }
};

// What a thread needs for the cheap convolution of one image.
struct Room {
    Padded intrinsic, by_ghosts, by_intrinsic;

    explicit Room(const Layer &layer)
        : intrinsic(layer.images, layer.cheap(), layer.half), by_ghosts(layer.images, layer.cheap(), layer.half),
          by_intrinsic(layer.images, layer.kernel, layer.half) {}
};

template <int L>
void add_sum(Pixels x, long pixels, long channels, float *sum) {
    for (long c = 0; c < channels; c += L)
        store<L>(sum + c, load<L>(sum + c) + sum_over<L>(pixels, [&](long p) { return load<L>(x[p] + c); }));
}

// The gradient of a row of T neighbouring taps of the cheap kernels, (T, half), over an image.
template <int L, int T>
void add_tap_gradients(const Padded &by_ghosts, const Padded &intrinsic, long tap, long c, float *by_cheap) {
    Vec<L> sum[T][2] = {};
    for (long r = 0; r < by_ghosts.images.height; r++) {
        Pixels by = by_ghosts.row(r).from(0, c), at = intrinsic.tap(r, tap).from(0, c);
        auto add = [&](int i, long p) {
            Vec<L> factor = load<L>(by[p]);
#pragma GCC unroll 4
            for (int t = 0; t < T; t++) sum[t][i] += factor * load<L>(at[p + t]);
        };
        long p = 0;
        for (; p + 2 <= by_ghosts.images.width; p += 2) add(0, p), add(1, p + 1);
        if (p < by_ghosts.images.width) add(0, p);
    }
    for (int t = 0; t < T; t++) {
        float *to = by_cheap + (tap + t) * by_ghosts.depth + c;
        store<L>(to, load<L>(to) + (sum[t][0] + sum[t][1]));
    }
}

template <int L>
void add_cheap_gradient(const Layer &layer, const Room &room, float *by_cheap) {
    for (long c = 0; c < layer.half; c += L)
        for (long tap = 0, size = layer.cheap_size; tap < size * size;) {
            bool three = tap % size + 3 <= size;
            three ? add_tap_gradients<L, 3>(room.by_ghosts, room.intrinsic, tap, c, by_cheap)
                  : add_tap_gradients<L, 1>(room.by_ghosts, room.intrinsic, tap, c, by_cheap);
            tap += three ? 3 : 1;
        }
}

// From the gradient of y to those of the cheap weights and of the intrinsic channels, of one image.
template <int L>
void back_through_cheap(const Layer &layer, const float *turned, Pixels grad, const Room &room, const Parameters &by) {
    long width = layer.images.width;
    room.by_ghosts.fill(grad.from(0, layer.half));
    add_cheap_gradient<L>(layer, room, by.cheap);
    for (long r = 0; r < layer.images.height; r++) {
        Pixels row = grad.from(r * width), to = room.by_intrinsic.row(r);
        depthwise<L>(
            room.by_ghosts, r, turned, [&](long p, long c) { return load<L>(row[p] + c); },
            [&](long p, long c, Vec<L> sum) { store<L>(to[p] + c, sum); });
        add_sum<L>(to, width, layer.half, by.primary_bias);
        add_sum<L>(row.from(0, layer.half), width, layer.half, by.cheap_bias);
    }
}

template <int L, class Primary>
void back_images(const Layer &layer, const Primary &primary, const float *turned, const float *x, const float *kept,
                 const float *grad, float *by_x, ByWeights &by_weights) {
    const Images &images = layer.images;
#pragma omp parallel num_threads(images.threads)
    {
        Room room(layer);
        typename Primary::Room of_primary(primary);
#pragma omp for schedule(static)
        for (long chunk = 0; chunk < CHUNKS; chunk++) {
            Parameters by = by_weights.of_chunk(chunk);
            for_images_of(chunk, images, [&](long n) {
                long first = n * images.pixels(), first_x = n * layer.input().pixels() * layer.in;
                room.intrinsic.fill({kept + first * layer.half, layer.half});
                back_through_cheap<L>(layer, turned, {grad + first * layer.out(), layer.out()}, room, by);
                of_primary.read(layer, x + first_x);
                primary.back(of_primary, room.by_intrinsic, by.primary, by_x ? by_x + first_x : nullptr);
            });
        }
    }
}

// Calls with the form of the primary convolution that is faster.
template <class Function>
void with_primary(const Layer &layer, const Parameters &p, bool wants_x, Function function) {
    if (ByWinograd::fits(layer))
        function(ByWinograd(layer, p.primary, p.primary_bias, wants_x));
    else
        function(Direct(layer, p.primary, p.primary_bias, wants_x));
}

}  // namespace

extern "C" {

// shortcut and kept may be null.
void forward(const Layer &layer, const Parameters &p, const float *scale, const float *shift, const float *x,
             const float *shortcut, long activates, float *kept, float *y) {
    Vector cheap = transposed(p.cheap, layer.half, layer.cheap().taps());
    with_primary(layer, p, false, [&](const auto &primary) {
        by_lanes(layer.half, [&](auto lanes) {
            constexpr int L = decltype(lanes)::value;
            forward_images<L>(layer, primary, cheap.data(), p.cheap_bias, x,
                              {scale, shift, kept, y, {shortcut, activates, y}});
        });
    });
}

// by holds zeros; by_x may be null.
void backward(const Layer &layer, const Parameters &p, const float *x, const float *kept, const float *grad,
              float *by_x, const Parameters &by) {
    long taps = layer.cheap().taps();
    Vector turned(taps * layer.half);
    for (long at = 0; at < taps * layer.half; at++)
        turned[(taps - 1 - at % taps) * layer.half + at / taps] = p.cheap[at];
    with_primary(layer, p, by_x, [&](const auto &primary) {
        ByWeights by_weights(layer, primary.weights());
        by_lanes(layer.half, [&](auto lanes) {
            constexpr int L = decltype(lanes)::value;
            back_images<L>(layer, primary, turned.data(), x, kept, grad, by_x, by_weights);
        });
        by_weights.sum_into(layer, primary, by);
    });
}
}
