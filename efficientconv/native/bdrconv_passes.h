// BDRConv's passes over activations, image by image.
//
// The first m channels of x and the others, expanded, are planes·m features; the first batch norm scales and shifts
// them. All of that is one product, x·expansion + shift, (pixels, in)·(in, planes·m): plane k holds channel k of each
// group, so that the sum over a group is one of vectors. The features never leave the processor's cache: the backward
// pass computes them again. y is the base branch's channels, then the diverse ones. Where the layer strides, x is
// pooled for the features and for the sum at the end, and the base branch takes every second pixel of x itself.
#pragma once
#include "ending.h"
#include "pooling.h"

struct Layer {
    Images images;  // of the output
    Stride stride;
    Kernel kernel;
    long in, main, out, planes, of_group, hidden;  // of_group: diverse channels of each of the main groups
    double epsilon1, epsilon2;
    long features() const { return planes * main; }
    long diverse() const { return of_group * main; }
    long base() const { return out - diverse(); }
    long other() const { return in - main; }
};

// The first m features are the first m channels of x themselves, scaled: lanes of vectors in another order. Of the
// others the source is -1 and the scale 0.
struct Taken {
    Vector scale;             // (features,)
    std::vector<int> source;  // channels of x, (features,)

    explicit Taken(const Layer &layer) : scale(layer.features()), source(layer.features(), -1) {}
};

// The weights as the passes take them.
struct Weights {
    const float *expansion, *shift;  // (in, features), (features,)
    const Taken &taken;
    const float *diversity;      // (of_group, taps, features)
    const float *main, *expand;  // (main, base), (other, out)
};

// x, and what becomes of it at stride 1: itself.
struct Input {
    const float *x, *pooled;

    Pixels image(const Layer &layer, long n) const { return {pooled + n * layer.images.pixels() * layer.in, layer.in}; }

    // The pixels that the base branch takes for a row of its output.
    Pixels row(const Layer &layer, long n, long r) const {
        return strided_row(layer.images, layer.stride, x, layer.in, n, r);
    }
};

// The channels of x in the order in which L features take them, where one or two vectors hold all that are taken.
template <int L, int VECTORS>
inline Vec<L> take(const float *x, Mask<L> source) {
#ifdef __clang__  // has no such shuffle
    Vec<L> lanes;
    for (int i = 0; i < L; i++) lanes[i] = x[source[i] & (VECTORS * L - 1)];
    return lanes;
#else
    if constexpr (VECTORS == 1)
        return __builtin_shuffle(load<L>(x), source);
    else
        return __builtin_shuffle(load<L>(x), load<L>(x + L), source);
#endif
}

template <int L>
inline Mask<L> sources(const Taken &taken, long feature) {
    Mask<L> source;
    for (int i = 0; i < L; i++) source[i] = taken.source[feature + i];
    return source;
}

// Calls with how many vectors hold what is taken of x, one or two: a shuffle reads no more. Tells whether it did.
template <int L, class Function>
inline bool by_taken(const Layer &layer, Function function) {
    if (layer.main == L) return function(Size<1>()), true;
    if (layer.main == 2 * L) return function(Size<2>()), true;
    return false;
}

// features = shift + what they take of x, of one row.
template <int L, int VECTORS>
inline void begin_features(const Layer &layer, const Weights &weights, Pixels x, Pixels features) {
    for (long c = 0; c < layer.features(); c += L) {
        Vec<L> shift = load<L>(weights.shift + c), scale = load<L>(&weights.taken.scale[c]);
        Mask<L> source = sources<L>(weights.taken, c);
        for (long p = 0; p < layer.images.width; p++)
            store<L>(features[p] + c, shift + scale * take<L, VECTORS>(x[p], source));
    }
}

template <int L>
inline void expand(const Layer &layer, const Weights &weights, Pixels x, long r, const Padded &features) {
    long width = layer.images.width;
    x = x.from(r * width);
    bool begun = by_taken<L>(
        layer, [&](auto vectors) { begin_features<L, decltype(vectors)::value>(layer, weights, x, features.row(r)); });
    if (begun)
        multiply<Start::y>(x.from(0, layer.main), width, layer.other(),
                           weights.expansion + layer.main * layer.features(), layer.features(), nullptr,
                           features.row(r));
    else
        multiply<Start::bias>(x, width, layer.in, weights.expansion, layer.features(), weights.shift, features.row(r));
}

// Stores L values `step` apart.
template <int L>
inline void store_apart(float *at, long step, Vec<L> value) {
    if (step == 1) return store<L>(at, value);
    for (int i = 0; i < L; i++) at[i * step] = value[i];
}

// y[of_group·j + i] = Σ weight[i][tap][plane][j]·features[tap][plane][j] over taps and planes, for one row and one i.
template <int L>
void sum_groups(const Layer &layer, const Padded &features, long r, const float *weight, Pixels y) {
    Taps taps = features.taps();
    long width = layer.features(), plane = layer.main;
    for (long j = 0; j < layer.main; j += L)
        by_pixels(layer.images.width, [&](auto pixels, long p) {
            constexpr int R = decltype(pixels)::value;
            Vec<L> sum[R] = {};
            Pixels first = features.tap(r, 0).from(p, j);
            for (long tap = 0; tap < taps.number; tap++)
                for (long c = 0; c < width; c += plane) {
                    Vec<L> factor = load<L>(weight + tap * width + c + j);
                    const float *from = first.data + taps.at[tap] + c;
#pragma GCC unroll 8
                    for (int i = 0; i < R; i++) sum[i] += factor * load<L>(from + i * width);
                }
#pragma GCC unroll 8
            for (int i = 0; i < R; i++) store_apart<L>(y[p + i] + j * layer.of_group, layer.of_group, sum[i]);
        });
}

// The gradient of the features of one row: each tap's weight meets the pixel on its other side.
template <int L>
void spread_groups(const Layer &layer, const Padded &by_diverse, long r, const float *weight, Pixels by_features) {
    Taps taps = by_diverse.taps();
    long width = layer.diverse(), of_channel = taps.number * layer.features();
    for (long c = 0; c < layer.features(); c += L)
        by_pixels(layer.images.width, [&](auto pixels, long p) {
            constexpr int R = decltype(pixels)::value;
            Vec<L> sum[R] = {};
            Pixels first = by_diverse.tap(r, 0).from(p, c % layer.main);
            for (long tap = 0; tap < taps.number; tap++)
                for (long i = 0; i < layer.of_group; i++) {
                    long opposite = taps.number - 1 - tap;
                    Vec<L> factor = load<L>(weight + i * of_channel + opposite * layer.features() + c);
                    const float *from = first.data + taps.at[tap] + i * layer.main;
#pragma GCC unroll 8
                    for (int k = 0; k < R; k++) sum[k] += factor * load<L>(from + k * width);
                }
#pragma GCC unroll 8
            for (int i = 0; i < R; i++) store<L>(by_features[p + i] + c, sum[i]);
        });
}

// The gradient of T neighbouring taps' weights, for one row.
template <int L, int T>
inline void add_tap_gradients(const Layer &layer, Pixels by_diverse, Pixels features, float *by_weight) {
    Vec<L> sum[T][4] = {};
    long next = layer.kernel.column_dilation, p = 0;
    auto add = [&](int i) {
        Vec<L> by = load<L>(by_diverse[p + i]);
#pragma GCC unroll 4
        for (int t = 0; t < T; t++) sum[t][i] += by * load<L>(features[p + i + t * next]);
    };
    for (; p + 4 <= layer.images.width; p += 4)
#pragma GCC unroll 4
        for (int i = 0; i < 4; i++) add(i);
    for (; p < layer.images.width; p++) add(0);
    for (int t = 0; t < T; t++) {
        float *at = by_weight + t * layer.features();
        store<L>(at, load<L>(at) + (sum[t][0] + sum[t][1]) + (sum[t][2] + sum[t][3]));
    }
}

template <int L>
void add_group_gradients(const Layer &layer, const Padded &by_diverse, long channel, const Padded &features, long r,
                         float *by_weight) {
    for (long c = 0; c < layer.features(); c += L)
        for (long row = 0; row < layer.kernel.rows; row++) {
            long tap = row * layer.kernel.columns, end = tap + layer.kernel.columns;
            Pixels by = by_diverse.row(r).from(0, channel + c % layer.main);
            auto add = [&](auto taps) {
                constexpr int T = decltype(taps)::value;
                float *at = by_weight + tap * layer.features() + c;
                add_tap_gradients<L, T>(layer, by, features.tap(r, tap).from(0, c), at);
                tap += T;
            };
            while (tap + 3 <= end) add(Size<3>());
            while (tap < end) add(Size<1>());
        }
}

// From x to y, of one image.
template <int L>
void forward_image(const Layer &layer, const Weights &weights, const Input &x, long n, const Padded &features,
                   Pixels y) {
    long width = layer.images.width, of_channel = layer.kernel.taps() * layer.features();
    auto prepare = [&](long r) { expand<L>(layer, weights, x.image(layer, n), r, features); };
    by_rows(layer.images, layer.kernel, prepare, [&](long r) {
        Pixels row = y.from(r * width);
        multiply(x.row(layer, n, r), width, layer.main, weights.main, layer.base(), nullptr, row);
        for (long i = 0; i < layer.of_group; i++)
            sum_groups<L>(layer, features, r, weights.diversity + i * of_channel, row.from(0, layer.base() + i));
    });
}

// Writes y, (N, H, W, out), the mean of each image and the sum of its squared differences from it, (N, out).
template <int L>
void forward_images(const Layer &layer, const Weights &weights, const Input &x, float *y, float *means,
                    float *squares) {
    const Images &images = layer.images;
#pragma omp parallel num_threads(images.threads)
    {
        Padded features(images, layer.kernel, layer.features());
#pragma omp for schedule(static)
        for (long n = 0; n < images.number; n++) {
            Pixels to(y + n * images.pixels() * layer.out, layer.out);
            forward_image<L>(layer, weights, x, n, features, to);
            moments<L>(to, images.pixels(), layer.out, means + n * layer.out, squares + n * layer.out);
        }
    }
}

// out = scale·y + shift + the other channels of x, expanded; of one image. Each row that is written is finished.
template <int L>
void gate_image(const Layer &layer, const Weights &weights, Pixels x, Pixels y, const float *scale, const float *shift,
                const Ending &ending, Pixels out) {
    long width = layer.images.width;
    for (long first = 0; first < layer.images.pixels(); first += width) {
        for (long p = first; p < first + width; p++)
            for (long c = 0; c < layer.out; c += L)
                store<L>(out[p] + c, load<L>(y[p] + c) * load<L>(scale + c) + load<L>(shift + c));
        multiply<Start::y>(x.from(first, layer.main), width, layer.other(), weights.expand, layer.out, nullptr,
                           out.from(first));
        ending.finish(out.from(first), width);
    }
}

template <int L>
void gate_images(const Layer &layer, const Weights &weights, const Input &x, const float *y, const float *scales,
                 const float *shifts, float *out) {
    const Images &images = layer.images;
#pragma omp parallel for schedule(static) num_threads(images.threads)
    for (long n = 0; n < images.number; n++) {
        Pixels from(y + n * images.pixels() * layer.out, layer.out),
            to(out + n * images.pixels() * layer.out, layer.out);
        gate_image<L>(layer, weights, x.image(layer, n), from, scales + n * layer.out, shifts + n * layer.out, {}, to);
    }
}

// From x to the output where all statistics are known; gate(means, scale, shift) finds the last two of an image.
template <int L, class Gate>
void infer_images(const Layer &layer, const Weights &weights, const Input &x, Gate gate, const Ending &ending,
                  float *out) {
    const Images &images = layer.images;
#pragma omp parallel num_threads(images.threads)
    {
        Padded features(images, layer.kernel, layer.features());
        std::vector<float> image(images.pixels() * layer.out), mean(layer.out), scale(layer.out), shift(layer.out);
        Pixels y(image.data(), layer.out);
#pragma omp for schedule(static)
        for (long n = 0; n < images.number; n++) {
            forward_image<L>(layer, weights, x, n, features, y);
            means<L>(y, images.pixels(), layer.out, mean.data());
            gate(mean.data(), scale.data(), shift.data());
            gate_image<L>(layer, weights, x.image(layer, n), y, scale.data(), shift.data(), ending,
                          {out + n * images.pixels() * layer.out, layer.out});
        }
    }
}

// The sums over each image's pixels of grad·(y − mean) and of grad, (N, out).
template <int L>
void sum_images(const Layer &layer, const float *grad, const float *y, const float *mean, float *by_scales,
                float *by_offsets) {
    const Images &images = layer.images;
#pragma omp parallel for schedule(static) num_threads(images.threads)
    for (long n = 0; n < images.number; n++) {
        Pixels by(grad + n * images.pixels() * layer.out, layer.out),
            at(y + n * images.pixels() * layer.out, layer.out);
        for (long c = 0; c < layer.out; c += L) {
            Vec<L> middle = load<L>(mean + c);
            store<L>(by_scales + n * layer.out + c, sum_over<L>(images.pixels(), [&](long p) {
                         return load<L>(by[p] + c) * (load<L>(at[p] + c) - middle);
                     }));
            store<L>(by_offsets + n * layer.out + c,
                     sum_over<L>(images.pixels(), [&](long p) { return load<L>(by[p] + c); }));
        }
    }
}

// What the backward pass starts from. The gradient of y is scale·grad + slope·y + constant.
struct Given {
    Input x;
    const float *y, *grad;
    Weights weights;
    const float *expansion, *main, *expand;   // transposed
    const float *scales, *slope, *constants;  // (N, out), (out,), (N, out)
    const float *mean;                        // of x, (in,)
};

// Gradients: of x pooled, of the pixels that the base branch took, and of the weights for each chunk.
struct Found {
    float *pooled;
    Pixels taken;
    float *expansion, *shift, *diversity, *main, *expand;

    Found of_chunk(const Layer &layer, long chunk) const {
        return {pooled,
                taken,
                expansion + chunk * layer.in * layer.features(),
                shift + chunk * layer.features(),
                diversity + chunk * layer.of_group * layer.kernel.taps() * layer.features(),
                main + chunk * layer.main * layer.base(),
                expand + chunk * layer.other() * layer.out};
    }
};

// What a thread needs for one image.
struct Room {
    Padded features, by_diverse;
    Vector rows;
    Pixels by_base, by_features, by_diverse_row, centred;

    explicit Room(const Layer &layer)
        : features(layer.images, layer.kernel, layer.features()),
          by_diverse(layer.images, layer.kernel, layer.diverse()),
          rows(layer.images.width * (layer.base() + layer.features() + layer.diverse() + layer.in)),
          by_base(rows.data(), layer.base()), by_features(by_base[layer.images.width], layer.features()),
          by_diverse_row(by_features[layer.images.width], layer.diverse()),
          centred(by_diverse_row[layer.images.width], layer.in) {}
};

// The gradient of some channels of y, for one row.
template <int L>
inline void back_to_y(const Layer &layer, const Given &given, long n, long r, long channel, long channels, Pixels to) {
    const Images &images = layer.images;
    long first = (n * images.height + r) * images.width;
    Pixels by(given.grad + first * layer.out + channel, layer.out), y(given.y + first * layer.out + channel, layer.out);
    const float *scale = given.scales + n * layer.out + channel, *slope = given.slope + channel;
    const float *constant = given.constants + n * layer.out + channel;
    for (long p = 0; p < images.width; p++)
        for (long c = 0; c < channels; c += L)
            store<L>(to[p] + c, load<L>(by[p] + c) * load<L>(scale + c) + load<L>(y[p] + c) * load<L>(slope + c) +
                                    load<L>(constant + c));
}

// The gradient of the diverse channels, for one row: channel i of all groups together.
template <int L>
void back_to_diverse(const Layer &layer, const Given &given, long n, long r, const Room &room) {
    Pixels to = room.by_diverse.row(r), row = layer.of_group == 1 ? to : room.by_diverse_row;
    back_to_y<L>(layer, given, n, r, layer.base(), layer.diverse(), row);
    if (layer.of_group == 1) return;
    for (long p = 0; p < layer.images.width; p++)
        for (long c = 0; c < layer.diverse(); c++)
            to[p][c % layer.of_group * layer.main + c / layer.of_group] = row[p][c];
}

// The gradient of the expansion, (in, features), as far as it is one of parameters or scales, for one row.
template <int L>
void add_expansion_gradient(const Layer &layer, const Taken &taken, const Room &room, float *by_expansion) {
    long width = layer.images.width, features = layer.features();
    bool added = by_taken<L>(layer, [&](auto vectors) {
        for (long c = 0; c < features; c += L) {
            Mask<L> source = sources<L>(taken, c);
            Vec<L> sum = sum_over<L>(width, [&](long p) {
                return load<L>(room.by_features[p] + c) * take<L, decltype(vectors)::value>(room.centred[p], source);
            });
            for (int i = 0; i < L; i++)
                if (taken.source[c + i] >= 0) by_expansion[taken.source[c + i] * features + c + i] += sum[i];
        }
    });
    long first = added ? layer.main : 0;
    add_products(room.centred.from(0, first), layer.in - first, room.by_features, features, width,
                 by_expansion + first * features);
}

// The gradient of x as far as its features go, for one row. That of what is taken need not be a product where the rest
// is whole vectors; the lanes that took a channel lie in the first vector of each plane.
template <int L>
void back_through_features(const Layer &layer, const Given &given, const Room &room, Pixels by_x) {
    long width = layer.images.width, main = layer.main;
    bool is_taken = L == WIDEST && by_taken<L>(layer, [](auto) {}) && main <= L * layer.planes;
    for (long c = 0; is_taken && c < main; c += L)
        for (long plane = 0; plane < layer.planes; plane++) {
            Vec<L> scale = {};
            Mask<L> source = {};
            for (int i = 0; i < L; i++)
                if ((c + i) % layer.planes == plane) {
                    source[i] = (c + i) / layer.planes;
                    scale[i] = given.weights.taken.scale[plane * main + source[i]];
                }
            for (long p = 0; p < width; p++) {
                Vec<L> by = scale * take<L, 1>(room.by_features[p] + plane * main, source);
                store<L>(by_x[p] + c, plane ? load<L>(by_x[p] + c) + by : by);
            }
        }
    long first = is_taken ? main : 0;
    multiply(room.by_features, width, layer.features(), Pixels(given.expansion + first, layer.in), layer.in - first,
             by_x.from(0, first));
}

template <int L>
void back_row(const Layer &layer, const Given &given, long n, long r, const Room &room, const Found &found) {
    long width = layer.images.width, first = (n * layer.images.height + r) * width;
    Pixels x(given.x.pooled + first * layer.in, layer.in), taken = given.x.row(layer, n, r);
    Pixels grad(given.grad + first * layer.out, layer.out), by_x(found.pooled + first * layer.in, layer.in);
    back_to_y<L>(layer, given, n, r, 0, layer.base(), room.by_base);
    spread_groups<L>(layer, room.by_diverse, r, given.weights.diversity, room.by_features);
    add_sum<L>(room.by_features, width, layer.features(), found.shift);
    centre<8>(x, width, layer.in, given.mean, room.centred);
    add_expansion_gradient<L>(layer, given.weights.taken, room, found.expansion);
    add_products(taken, layer.main, room.by_base, layer.base(), width, found.main);
    add_products(x.from(0, layer.main), layer.other(), grad, layer.out, width, found.expand);
    back_through_features<L>(layer, given, room, by_x);
    multiply<Start::y>(room.by_base, width, layer.base(), given.main, layer.main, nullptr, found.taken.from(first));
    multiply<Start::y>(grad, width, layer.out, given.expand, layer.other(), nullptr, by_x.from(0, layer.main));
}

template <int L>
void back_images(const Layer &layer, const Given &given, const Found &found) {
    const Images &images = layer.images;
    long of_channel = layer.kernel.taps() * layer.features();
#pragma omp parallel num_threads(images.threads)
    {
        Room room(layer);
#pragma omp for schedule(static)
        for (long chunk = 0; chunk < CHUNKS; chunk++) {
            Found to = found.of_chunk(layer, chunk);
            for_images_of(chunk, images, [&](long n) {
                auto prepare = [&](long r) {
                    expand<L>(layer, given.weights, given.x.image(layer, n), r, room.features);
                    back_to_diverse<L>(layer, given, n, r, room);
                };
                by_rows(layer.images, layer.kernel, prepare, [&](long r) {
                    for (long i = 0; i < layer.of_group; i++)
                        add_group_gradients<L>(layer, room.by_diverse, i * layer.main, room.features, r,
                                               to.diversity + i * of_channel);
                    back_row<L>(layer, given, n, r, room, to);
                });
            });
        }
    }
}

// by_x += x·slope + constant, (in, in) and (in,): what the statistics of x add to its gradient.
template <int L>
void add_to_x(const Layer &layer, const float *x, const float *slope, const float *constant, float *by_x) {
    const Images &images = layer.images;
    long rows = images.number * images.height, width = images.width;
#pragma omp parallel for schedule(static) num_threads(images.threads)
    for (long r = 0; r < rows; r++) {
        Pixels from(x + r * width * layer.in, layer.in), to(by_x + r * width * layer.in, layer.in);
        for (long p = 0; p < width; p++)
            for (long c = 0; c < layer.in; c += L) store<L>(to[p] + c, load<L>(to[p] + c) + load<L>(constant + c));
        multiply<Start::y>(from, width, layer.in, slope, layer.in, nullptr, to);
    }
}
