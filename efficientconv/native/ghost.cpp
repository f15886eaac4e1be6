// GhostConv's pair of convolutions as one operator: y = [intrinsic; ghosts], of half of the channels each.
//
// The intrinsic channels of an image go from one convolution to the other while they lie in the processor's cache, and
// both halves are written where they belong. The backward pass reads the intrinsic channels, which the forward pass
// keeps, and again takes an image through both convolutions at once.
#include "norm.h"
#include "pooling.h"

namespace {

struct Layer {
    Images images;  // of the output
    Stride stride;
    Kernel kernel;  // of the primary convolution
    long cheap_size, in, half;

    long out() const { return 2 * half; }
    Images input() const {
        return {images.threads, images.number, images.height * stride.rows, images.width * stride.columns};
    }
    Kernel cheap() const { return {cheap_size, cheap_size, 1, 1}; }

    // Neighbouring pixels of the output that are computed as one. Eight channels are half of a vector: two pixels of
    // them, side by side in memory, are a whole one, and to both together belongs a kernel one column wider, each half
    // of which is zero in one column. 4 products of whole vectors stand for 6 of halves.
    long together() const {
        bool pairs = half == 8 && WIDEST == 16 && stride.columns == 1 && kernel.column_dilation == 1;
        return pairs && images.width % 2 == 0 ? 2 : 1;
    }
    long width() const { return together() * half; }
    Kernel wider() const {
        return {kernel.rows, kernel.columns + together() - 1, kernel.row_dilation, kernel.column_dilation};
    }
};

// The parameters or their gradients, each as its module has it.
struct Parameters {
    float *primary, *primary_bias, *cheap, *cheap_bias;  // (half, in, rows, columns), (half,), (half, taps), (half,)
};

// Calls with the place of each weight of the primary convolution, (wider taps, in, width), and in the parameter.
template <class Function>
void for_primary(const Layer &layer, Function function) {
    long taps = layer.kernel.taps(), wider = layer.wider().columns;
    for (long tap = 0; tap < taps; tap++)
        for (long pixel = 0; pixel < layer.together(); pixel++) {
            long first = (tap / layer.kernel.columns * wider + tap % layer.kernel.columns + pixel) * layer.in;
            for (long i = 0; i < layer.in; i++)
                for (long o = 0; o < layer.half; o++)
                    function((first + i) * layer.width() + pixel * layer.half + o, (o * layer.in + i) * taps + tap);
        }
}

// The weights in the order of the passes.
struct Arranged {
    Vector primary, bias, cheap;  // (wider taps, in, width), (width,), (taps, half)

    Arranged(const Layer &layer, const Parameters &p)
        : primary(layer.wider().taps() * layer.in * layer.width()), bias(layer.width()),
          cheap(transposed(p.cheap, layer.half, layer.cheap().taps())) {
        for_primary(layer, [&](long here, long there) { primary[here] = p.primary[there]; });
        for (long c = 0; c < layer.width(); c++) bias[c] = p.primary_bias[c % layer.half];
    }
};

// Asks for part r of parts of an image, to read (0) or to write (1), while there is something else to do.
template <int WRITE>
inline void prefetch_part(const float *image, long floats, long r, long parts) {
    for (long at = r * floats / parts; at < (r + 1) * floats / parts; at += 16) __builtin_prefetch(image + at, WRITE, 2);
}

// What the primary convolution reads for a row of its output, and where it writes it.
inline Pixels read(const Layer &layer, const Padded &x, long r, long tap) {
    return {x.tap(r * layer.stride.rows, tap).data, layer.in * layer.stride.columns * layer.together()};
}

inline Pixels written(const Layer &layer, const Padded &intrinsic, long r) {
    return {intrinsic.row(r).data, layer.width()};
}

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
}

template <int L>
void forward_images(const Layer &layer, const Arranged &weights, const float *cheap_bias, const float *x,
                    const Output &output) {
    const Images &images = layer.images, input = layer.input();
#pragma omp parallel num_threads(images.threads)
    {
        Padded image(input, layer.wider(), layer.in), intrinsic(images, layer.cheap(), layer.half);
#pragma omp for schedule(static)
        for (long n = 0; n < images.number; n++) {
            image.fill({x + n * input.pixels() * layer.in, layer.in});
            long first = n * images.pixels(), next = std::min(n + 1, images.number - 1) * input.pixels() * layer.in;
            for (long r = 0; r < images.height; r++) {
                prefetch_part<0>(x + next, input.pixels() * layer.in, r, images.height);
                prefetch_part<1>(output.y + first * layer.out(), images.pixels() * layer.out(), r, images.height);
                convolve<Start::bias>(read(layer, image, r, 0), image.taps(), images.width / layer.together(),
                                      layer.in, weights.primary.data(), layer.width(), weights.bias.data(),
                                      written(layer, intrinsic, r));
            }
            for (long r = 0; r < images.height; r++)
                forward_row<L>(layer, weights.cheap.data(), cheap_bias, intrinsic, r, output,
                               n * images.pixels() + r * images.width);
        }
    }
}

// The pixels of x in one place of each stride, and what of the intrinsic channels' gradient reaches them.
struct Phase {
    long row, column;
    std::vector<long> at;  // of each tap that reaches them, in a padded image of the gradient
    Vector weights;        // (those taps, half, in)

    Phase(const Layer &layer, const Parameters &p, long row, long column) : row(row), column(column) {
        const Kernel &kernel = layer.kernel;
        long line = layer.images.width + 2 * kernel.left();
        for (long tap = 0; tap < kernel.taps(); tap++) {
            long up = row + kernel.above() - tap / kernel.columns * kernel.row_dilation;
            long left = column + kernel.left() - tap % kernel.columns * kernel.column_dilation;
            if (up % layer.stride.rows || left % layer.stride.columns) continue;
            at.push_back((up / layer.stride.rows * line + left / layer.stride.columns) * layer.half);
            for (long of = 0; of < layer.half * layer.in; of++) weights.push_back(p.primary[of * kernel.taps() + tap]);
        }
    }

    void convolve_back(const Layer &layer, const Padded &by_intrinsic, Pixels by_x) const {
        const Stride &stride = layer.stride;
        long line = layer.images.width * stride.columns;
        for (long r = 0; r < layer.images.height; r++) {
            Pixels to(by_x[(r * stride.rows + row) * line + column], layer.in * stride.columns);
            convolve(by_intrinsic.row(r), {(long)at.size(), at.data()}, layer.images.width, layer.half, weights.data(),
                     layer.in, nullptr, to);
        }
    }
};

// The gradients of the weights in the order of the passes, for each chunk.
struct ByWeights {
    Vector primary, primary_bias, cheap, cheap_bias;

    explicit ByWeights(const Layer &layer)
        : primary(CHUNKS * layer.wider().taps() * layer.in * layer.width()), primary_bias(CHUNKS * layer.half),
          cheap(CHUNKS * layer.cheap().taps() * layer.half), cheap_bias(CHUNKS * layer.half) {}

    Parameters of_chunk(long chunk) {
        auto at = [&](Vector &chunks) { return chunks.data() + chunk * (chunks.size() / CHUNKS); };
        return {at(primary), at(primary_bias), at(cheap), at(cheap_bias)};
    }

    void sum_into(const Layer &layer, const Parameters &by) {
        for (Vector *chunks : {&primary, &primary_bias, &cheap, &cheap_bias}) sum_chunks(*chunks);
        for_primary(layer, [&](long here, long there) { by.primary[there] += primary[here]; });
        Vector taps = transposed(cheap.data(), layer.cheap().taps(), layer.half);
        std::copy(taps.begin(), taps.end(), by.cheap);
        std::copy_n(primary_bias.data(), layer.half, by.primary_bias);
        std::copy_n(cheap_bias.data(), layer.half, by.cheap_bias);
    }
};

// What a thread needs for one image.
struct Room {
    Padded x, intrinsic, by_ghosts, by_intrinsic;

    explicit Room(const Layer &layer)
        : x(layer.input(), layer.wider(), layer.in), intrinsic(layer.images, layer.cheap(), layer.half),
          by_ghosts(layer.images, layer.cheap(), layer.half), by_intrinsic(layer.images, layer.kernel, layer.half) {}
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

// From the gradient of y to those of the weights and of the intrinsic channels, of one image.
template <int L>
void back_image(const Layer &layer, const float *turned, Pixels grad, const Room &room, const Parameters &by) {
    const Images &images = layer.images;
    room.by_ghosts.fill(grad.from(0, layer.half));
    add_cheap_gradient<L>(layer, room, by.cheap);
    for (long r = 0; r < images.height; r++) {
        Pixels row = grad.from(r * images.width), to = room.by_intrinsic.row(r);
        depthwise<L>(
            room.by_ghosts, r, turned, [&](long p, long c) { return load<L>(row[p] + c); },
            [&](long p, long c, Vec<L> sum) { store<L>(to[p] + c, sum); });
        add_sum<L>(to, images.width, layer.half, by.primary_bias);
        add_sum<L>(row.from(0, layer.half), images.width, layer.half, by.cheap_bias);
    }
    Pixels x = read(layer, room.x, 0, 0), to = written(layer, room.by_intrinsic, 0);
    Rows rows{images.height, images.width / layer.together(), read(layer, room.x, 1, 0).data - x.data,
              written(layer, room.by_intrinsic, 1).data - to.data};
    for (long tap = 0; tap < layer.wider().taps(); tap++)
        add_products(read(layer, room.x, 0, tap), layer.in, to, layer.width(), rows,
                     by.primary + tap * layer.in * layer.width());
}

template <int L>
void back_images(const Layer &layer, const std::vector<Phase> &phases, const float *turned, const float *x,
                 const float *kept, const float *grad, float *by_x, ByWeights &by_weights) {
    const Images &images = layer.images, input = layer.input();
#pragma omp parallel num_threads(images.threads)
    {
        Room room(layer);
#pragma omp for schedule(static)
        for (long chunk = 0; chunk < CHUNKS; chunk++) {
            Parameters by = by_weights.of_chunk(chunk);
            for_images_of(chunk, images, [&](long n) {
                long first = n * input.pixels() * layer.in;
                room.x.fill({x + first, layer.in});
                room.intrinsic.fill({kept + n * images.pixels() * layer.half, layer.half});
                back_image<L>(layer, turned, {grad + n * images.pixels() * layer.out(), layer.out()}, room, by);
                for (const Phase &phase : phases)
                    phase.convolve_back(layer, room.by_intrinsic, {by_x + first, layer.in});
            });
        }
    }
}

}  // namespace

extern "C" {

// kept may be null.
void forward(const Layer &layer, const Parameters &p, const float *scale, const float *shift, const float *x,
             float *kept, float *y) {
    Arranged weights(layer, p);
    by_lanes(layer.half, [&](auto lanes) {
        forward_images<decltype(lanes)::value>(layer, weights, p.cheap_bias, x, {scale, shift, kept, y});
    });
}

// by holds zeros; by_x may be null.
void backward(const Layer &layer, const Parameters &p, const float *x, const float *kept, const float *grad,
              float *by_x, const Parameters &by) {
    long taps = layer.cheap().taps();
    Vector turned(taps * layer.half);
    for (long at = 0; at < taps * layer.half; at++)
        turned[(taps - 1 - at % taps) * layer.half + at / taps] = p.cheap[at];
    std::vector<Phase> phases;
    for (long at = 0; by_x && at < layer.stride.pixels(); at++)
        phases.emplace_back(layer, p, at / layer.stride.columns, at % layer.stride.columns);
    ByWeights by_weights(layer);
    by_lanes(layer.half, [&](auto lanes) {
        back_images<decltype(lanes)::value>(layer, phases, turned.data(), x, kept, grad, by_x, by_weights);
    });
    by_weights.sum_into(layer, by);
}
}
