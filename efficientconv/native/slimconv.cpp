// SlimConv as one operator.
//
// Four times something has to be known of all images before the next can be computed: the gate's batch norm, of the
// means of x, and those of the two paths. Between them an image goes through the layer in one pass.
#include "slimconv_gate.h"

namespace {

// (out, in, taps) → (taps, in, out).
Vector by_taps(const float *weight, long out, long in, long taps) {
    Vector result(out * in * taps);
    for (long o = 0; o < out; o++)
        for (long i = 0; i < in; i++)
            for (long t = 0; t < taps; t++) result[(t * in + i) * out + o] = weight[(o * in + i) * taps + t];
    return result;
}

// The kernel through which gradients go back: turned by half a circle, (taps, out, in).
Vector turned(const float *weight, long out, long in, long taps) {
    Vector result(out * in * taps);
    for (long o = 0; o < out; o++)
        for (long i = 0; i < in; i++)
            for (long t = 0; t < taps; t++)
                result[((taps - 1 - t) * out + o) * in + i] = weight[(o * in + i) * taps + t];
    return result;
}

void from_taps(const Vector &by, long out, long in, long taps, float *weight) {
    for (long o = 0; o < out; o++)
        for (long i = 0; i < in; i++)
            for (long t = 0; t < taps; t++) weight[(o * in + i) * taps + t] = by[(t * in + i) * out + o];
}

struct Arranged {
    Vector kernel1, narrow, kernel2, restore;

    Arranged(const Layer &layer, const Parameters &p)
        : kernel1(by_taps(p.conv1, layer.first(), layer.first(), layer.kernel.taps())),
          narrow(transposed(p.narrow, layer.second(), layer.first())),
          kernel2(by_taps(p.conv2, layer.second(), layer.second(), layer.kernel.taps())),
          restore(layer.restores ? transposed(p.restore, layer.out, layer.both()) : Vector()) {}

    Weights weights() const { return {kernel1.data(), narrow.data(), kernel2.data(), restore.data()}; }
};

// The sums of a norm's gradient over the images.
struct Sums {
    Vector scale, offset;
    explicit Sums(long channels) : scale(CHUNKS * channels), offset(CHUNKS * channels) {}

    NormSums of_chunk(long channels, long chunk) { return {&scale[chunk * channels], &offset[chunk * channels]}; }

    BackNorm back(const Layer &layer, const Norm &norm, const Statistics &of, const float *weight, double epsilon,
                  float *by_weight, float *by_bias) {
        for (Vector *sums : {&scale, &offset}) {
            sum_chunks(*sums);
            sums->resize(of.mean.size());
        }
        Statistics by = back_through_norm(of, weight, epsilon, scale, offset, by_weight, by_bias);
        return {norm, of, by, (double)layer.images.number * layer.images.pixels()};
    }
};

// Calls with each chunk's images and a room of its thread's.
template <class Room, class Function>
void for_chunks(const Layer &layer, Function function) {
#pragma omp parallel num_threads(layer.images.threads)
    {
        Room room(layer);
#pragma omp for schedule(static)
        for (long chunk = 0; chunk < CHUNKS; chunk++)
            for_images_of(chunk, layer.images, [&](long n) { function(room, chunk, n); });
    }
}

struct RowRoom {
    Vector floats;
    Pixels z, by;
    explicit RowRoom(const Layer &layer)
        : floats(2 * layer.images.width * layer.both()), z(floats.data(), layer.both()),
          by(z[layer.images.width], layer.both()) {}
};

struct BackRoom : Room {
    Padded by_y1, by_y2;
    Vector more;
    Pixels by_m, by_u;  // of one row

    explicit BackRoom(const Layer &layer)
        : Room(layer), by_y1(layer.images, layer.kernel, layer.first()),
          by_y2(layer.images, layer.kernel, layer.second()), more(layer.images.width * layer.both()),
          by_m(more.data(), layer.second()), by_u(by_m[layer.images.width], layer.first()) {}
};

struct WholeRoom : Room {
    Vector more;
    Pixels y1, m, y2, z;  // of an image; z: of a row

    explicit WholeRoom(const Layer &layer)
        : Room(layer), more(layer.images.pixels() * layer.in * 2 + layer.images.width * layer.both()),
          y1(more.data(), layer.first()), m(y1[layer.images.pixels()], layer.second()),
          y2(m[layer.images.pixels()], layer.second()), z(y2[layer.images.pixels()], layer.both()) {}
};

// The norms of the two paths, from what the forward pass saved.
struct Norms {
    Statistics of1, of2, of3;
    Norm norm1, norm2, norm3;

    Norms(const Layer &layer, const Parameters &p, const Saved &saved)
        : of1(layer.first(), saved.mean1, saved.variance1), of2(layer.second(), saved.mean2, saved.variance2),
          of3(layer.second(), saved.mean3, saved.variance3), norm1(of1, p.weight1, p.bias1, layer.epsilon1),
          norm2(of2, p.weight2, p.bias2, layer.epsilon2), norm3(of3, p.weight3, p.bias3, layer.epsilon3) {}
};

struct BackNorms {
    BackNorm first, second;
};

// The passes from the output's gradient to that of x.
struct Backward {
    const Layer &layer;
    const Parameters &p;
    const Saved &saved;
    const Parameters &by;
    const float *x, *grad;
    float *by_z, *by_bent, *by_x;
    Norms norms;

    Pixels y1(long n) const { return image_of(layer, saved.y1, layer.first(), n); }
    Pixels m(long n) const { return image_of(layer, saved.m, layer.second(), n); }
    Pixels y2(long n) const { return image_of(layer, saved.y2, layer.second(), n); }
    Pixels z(long n) const { return image_of(layer, by_z, layer.both(), n); }
    Pixels bent(long n) const { return image_of(layer, by_bent, layer.second(), n); }

    // To z, and what the norms at the paths' ends make of it.
    BackNorms through_restoring() const {
        long pixels = layer.images.pixels();
        Sums sums1(layer.first()), sums3(layer.second());
        Vector by_restore(layer.restores * CHUNKS * layer.both() * layer.out);
        for_chunks<RowRoom>(layer, [&](RowRoom &room, long chunk, long n) {
            if (layer.restores) back_through_restoring(room, n, &by_restore[chunk * layer.both() * layer.out]);
            sums1.of_chunk(layer.first(), chunk).add(z(n), y1(n), pixels, norms.of1.mean);
            sums3.of_chunk(layer.second(), chunk).add(z(n).from(0, layer.first()), y2(n), pixels, norms.of3.mean);
        });
        if (layer.restores) {
            sum_chunks(by_restore);
            from_taps(by_restore, layer.out, layer.both(), 1, by.restore);
        }
        return {sums1.back(layer, norms.norm1, norms.of1, p.weight1, layer.epsilon1, by.weight1, by.bias1),
                sums3.back(layer, norms.norm3, norms.of3, p.weight3, layer.epsilon3, by.weight3, by.bias3)};
    }

    void back_through_restoring(RowRoom &room, long n, float *by_restore) const {
        long width = layer.images.width;
        for (long at = 0; at < layer.images.pixels(); at += width) {
            Pixels from = image_of(layer, grad, layer.out, n).from(at), to = z(n).from(at);
            normalize<Bend::relu>(y1(n).from(at), width, norms.norm1, room.z);
            normalize<Bend::relu>(y2(n).from(at), width, norms.norm3, room.z.from(0, layer.first()));
            add_products(room.z, layer.both(), from, layer.out, width, by_restore);
            multiply(from, width, layer.out, p.restore, layer.both(), nullptr, to);
            bend_back(room.z, width, layer.both(), to);
        }
    }

    // To what the second path's first norm gives, and through that norm.
    BackNorm through_second_path(const BackNorm &end) const {
        long second = layer.second(), taps = layer.kernel.taps(), width = layer.images.width;
        Sums sums(second);
        Vector kernel = turned(p.conv2, second, second, taps), by_kernel(CHUNKS * taps * second * second);
        for_chunks<BackRoom>(layer, [&](BackRoom &room, long chunk, long n) {
            Pixels by_kernel_here(&by_kernel[chunk * taps * second * second], second);
            end.apply(layer, z(n).from(0, layer.first()), y2(n), room.by_y2);
            normalize_image<Bend::relu>(layer, m(n), norms.norm2, room.v);
            add_kernel_gradient(room.v, room.by_y2, by_kernel_here);
            for (long r = 0; r < layer.images.height; r++) {
                Pixels to = bent(n).from(r * width);
                convolve_row(room.by_y2, r, kernel.data(), second, nullptr, to);
                bend_back(room.v.row(r), width, second, to);
            }
            sums.of_chunk(second, chunk).add(bent(n), m(n), layer.images.pixels(), norms.of2.mean);
        });
        sum_chunks(by_kernel);
        from_taps(by_kernel, second, second, taps, by.conv2);
        return sums.back(layer, norms.norm2, norms.of2, p.weight2, layer.epsilon2, by.weight2, by.bias2);
    }

    // To x but for its means, and to the gates, (N, in).
    Vector through_first_path(const BackNorm &end1, const BackNorm &end2) const {
        long first = layer.first(), second = layer.second(), taps = layer.kernel.taps();
        Vector by_gates(layer.images.number * layer.in), kernel = turned(p.conv1, first, first, taps);
        Vector by_kernel(CHUNKS * taps * first * first), by_narrow(CHUNKS * first * second);
        for_chunks<BackRoom>(layer, [&](BackRoom &room, long chunk, long n) {
            Pixels image = image_of(layer, x, layer.in, n);
            end1.apply(layer, z(n), y1(n), room.by_y1);
            for (long r = 0; r < layer.images.height; r++)
                fold(layer, image.from(r * layer.images.width), saved.gates + n * layer.in, layer.images.width,
                     room.u1.row(r));
            add_kernel_gradient(room.u1, room.by_y1, {&by_kernel[chunk * taps * first * first], first});
            back_through_folds(room, n, end2, kernel, &by_narrow[chunk * first * second], &by_gates[n * layer.in]);
        });
        sum_chunks(by_kernel);
        sum_chunks(by_narrow);
        from_taps(by_kernel, first, first, taps, by.conv1);
        from_taps(by_narrow, second, first, 1, by.narrow);
        return by_gates;
    }

    void back_through_folds(BackRoom &room, long n, const BackNorm &end2, const Vector &kernel, float *by_narrow,
                            float *by_gates) const {
        const float *gates = saved.gates + n * layer.in;
        long first = layer.first(), width = layer.images.width;
        Vector gates_flipped = flipped(layer, gates), by_flipped(layer.in);
        for (long at = 0, r = 0; r < layer.images.height; r++, at += width) {
            Pixels image = image_of(layer, x, layer.in, n).from(at), to = image_of(layer, by_x, layer.in, n).from(at);
            convolve_row(room.by_y1, r, kernel.data(), first, nullptr, room.by_u);
            back_through_fold<false>(layer, image, gates, room.by_u, width, to, by_gates);
            fold(layer, image, gates_flipped.data(), width, room.u2);
            end2.apply(bent(n).from(at), m(n).from(at), width, room.by_m);
            add_products(room.u2, first, room.by_m, layer.second(), width, by_narrow);
            multiply(room.by_m, width, layer.second(), p.narrow, first, nullptr, room.by_u);
            back_through_fold<true>(layer, image, gates_flipped.data(), room.by_u, width, to, by_flipped.data());
        }
        for (long c = 0; c < layer.in; c++) by_gates[c] += by_flipped[layer.in - 1 - c];
    }

    void through_means(const Vector &by_means) const {
        long pixels = layer.images.pixels();
        by_lanes(layer.in, [&](auto lanes) {
            constexpr int L = decltype(lanes)::value;
#pragma omp parallel for schedule(static) num_threads(layer.images.threads)
            for (long n = 0; n < layer.images.number; n++) {
                Pixels to = image_of(layer, by_x, layer.in, n);
                for (long q = 0; q < pixels; q++)
                    for (long c = 0; c < layer.in; c += L)
                        store<L>(to[q] + c, load<L>(to[q] + c) + load<L>(&by_means[n * layer.in + c]) / (float)pixels);
            }
        });
    }
};

}  // namespace

extern "C" {

void forward(const Layer &layer, const Parameters &p, const float *x, const Saved &saved, float *out) {
    long first = layer.first(), second = layer.second(), number = layer.images.number;
    Arranged arranged(layer, p);
    Weights weights = arranged.weights();
    find_hidden(layer, p, x, saved.means, saved.hidden);
    Statistics of0 = statistics_of_hidden(layer, saved.hidden);
    find_gates(layer, p, saved.hidden, Norm(of0, p.gate_weight, p.gate_bias, layer.epsilon_gate), saved.gates);
    Vector means1(number * first), squares1(means1.size()), means2(number * second), squares2(means2.size());
    for_chunks<Room>(layer, [&](Room &room, long, long n) {
        const float *gates = saved.gates + n * layer.in;
        Pixels y1 = image_of(layer, saved.y1, first, n), m = image_of(layer, saved.m, second, n);
        begin_image(layer, weights, image_of(layer, x, layer.in, n), gates, flipped(layer, gates).data(), room, y1, m);
        measure(layer, y1, &means1[n * first], &squares1[n * first]);
        measure(layer, m, &means2[n * second], &squares2[n * second]);
    });
    Statistics of1(layer.images, first, means1.data(), squares1.data());
    Statistics of2(layer.images, second, means2.data(), squares2.data());
    Norm norm1(of1, p.weight1, p.bias1, layer.epsilon1), norm2(of2, p.weight2, p.bias2, layer.epsilon2);
    for_chunks<Room>(layer, [&](Room &room, long, long n) {
        Pixels y2 = image_of(layer, saved.y2, second, n);
        go_on_with_image(layer, weights, image_of(layer, saved.m, second, n), norm2, room, y2);
        measure(layer, y2, &means2[n * second], &squares2[n * second]);
    });
    Statistics of3(layer.images, second, means2.data(), squares2.data());
    Norm norm3(of3, p.weight3, p.bias3, layer.epsilon3);
    for_chunks<RowRoom>(layer, [&](RowRoom &room, long, long n) {
        Pixels y1 = image_of(layer, saved.y1, first, n), y2 = image_of(layer, saved.y2, second, n);
        end_image(layer, weights, y1, y2, norm1, norm3, room.z, image_of(layer, out, layer.out, n));
    });
    of0.copy_to(saved.mean0, saved.variance0), of1.copy_to(saved.mean1, saved.variance1);
    of2.copy_to(saved.mean2, saved.variance2), of3.copy_to(saved.mean3, saved.variance3);
}

// by holds zeros; by_z and by_bent are room, (N, H, W, both) and (N, H, W, second).
void backward(const Layer &layer, const Parameters &p, const float *x, const Saved &saved, const float *grad,
              float *by_z, float *by_bent, float *by_x, const Parameters &by) {
    Backward back{layer, p, saved, by, x, grad, by_z, by_bent, by_x, Norms(layer, p, saved)};
    BackNorms through = back.through_restoring();
    BackNorm through2 = back.through_second_path(through.second);
    Vector by_gates = back.through_first_path(through.first, through2);
    back.through_means(back_through_gates(layer, p, saved, by_gates, by));
}

// With the scale and the shift of each norm in the places of its weight and its bias.
void inference(const Layer &layer, const Parameters &p, const float *x, float *out) {
    long first = layer.first(), second = layer.second(), number = layer.images.number;
    Arranged arranged(layer, p);
    Weights weights = arranged.weights();
    Vector means(number * layer.in), hidden(number * layer.hidden), gates(means.size());
    find_hidden(layer, p, x, means.data(), hidden.data());
    find_gates(layer, p, hidden.data(), Norm(p.gate_weight, p.gate_bias, layer.hidden), gates.data());
    Norm norm1(p.weight1, p.bias1, first), norm2(p.weight2, p.bias2, second), norm3(p.weight3, p.bias3, second);
    for_chunks<WholeRoom>(layer, [&](WholeRoom &room, long, long n) {
        const float *weight = &gates[n * layer.in];
        begin_image(layer, weights, image_of(layer, x, layer.in, n), weight, flipped(layer, weight).data(), room,
                    room.y1, room.m);
        go_on_with_image(layer, weights, room.m, norm2, room, room.y2);
        end_image(layer, weights, room.y1, room.y2, norm1, norm3, room.z, image_of(layer, out, layer.out, n));
    });
}
}
