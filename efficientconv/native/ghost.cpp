// GhostConv's pair of convolutions as one operator: y = [intrinsic; ghosts], of half of the channels each.
//
// The intrinsic channels of an image go from one convolution to the other while they lie in the processor's cache, and
// both halves are written where they belong. The backward pass reads the intrinsic channels, which the forward pass
// keeps, and again takes an image through both convolutions at once.
#include "depthwise.h"
#include "ghost_primary.h"
#include "norm.h"

namespace {

// The parameters or their gradients, each as its module has it.
struct Parameters {
    float *primary, *primary_bias, *cheap, *cheap_bias;  // (half, in, rows, columns), (half,), (half, taps), (half,)
};

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
        Sources(intrinsic, r), layer.images.width, cheap, [&](long, long c) { return load<L>(cheap_bias + c); },
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

// From the gradient of y to those of the cheap weights and of the intrinsic channels, of one image.
template <int L>
void back_through_cheap(const Layer &layer, const float *turned, Pixels grad, const Room &room, const Parameters &by) {
    long width = layer.images.width;
    room.by_ghosts.fill(grad.from(0, layer.half));
    for (long r = 0; r < layer.images.height; r++) {
        Pixels row = grad.from(r * width), to = room.by_intrinsic.row(r);
        add_depthwise_gradient<L>(Sources(room.intrinsic, r), row.from(0, layer.half), width, by.cheap);
        depthwise<L>(
            Sources(room.by_ghosts, r), width, turned, [&](long p, long c) { return load<L>(row[p] + c); },
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
    Vector turned = turned_depthwise(p.cheap, layer.half, taps);
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
