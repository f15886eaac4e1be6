// SlimConv as one operator.
//
// Four times something has to be known of all images before the next can be computed: the gate's batch norm, of the
// means of x, and those of the two paths. Between them an image goes through the layer in one pass.
#include "slimconv_passes.h"

namespace {

// The parameters or their gradients, each as its module has it.
struct Parameters {
    float *squeeze, *gate_weight, *gate_bias, *excite, *excite_bias;  // (hidden, in), (hidden,), …, (in, hidden), (in,)
    float *conv1, *weight1, *bias1, *narrow;                          // (first, first, taps), …, (second, first)
    float *weight2, *bias2, *conv2, *weight3, *bias3, *restore;       // (second, second, taps), …, (out, both)
};

// What the backward pass needs of the forward pass besides x.
struct Saved {
    float *means, *hidden, *gates;         // (N, in), (N, hidden), (N, in)
    float *y1, *m, *y2;                    // (N, H, W, first), (N, H, W, second) twice
    float *mean0, *variance0;              // of the gate's hidden values
    float *mean1, *variance1, *mean2, *variance2, *mean3, *variance3;  // of y₁, m and y₂
};

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
            for (long t = 0; t < taps; t++) result[((taps - 1 - t) * out + o) * in + i] = weight[(o * in + i) * taps + t];
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

// The means of x, and what the first convolution of the gate makes of them.
void find_hidden(const Layer &layer, const Parameters &p, const float *x, float *means_of, float *hidden) {
    by_lanes(layer.in, [&](auto lanes) {
#pragma omp parallel for schedule(static) num_threads(layer.images.threads)
        for (long n = 0; n < layer.images.number; n++)
            means<decltype(lanes)::value>(image_of(layer, x, layer.in, n), layer.images.pixels(), layer.in,
                                          means_of + n * layer.in);
    });
    for (long n = 0; n < layer.images.number; n++)
        for (long h = 0; h < layer.hidden; h++) {
            double sum = 0;
            for (long c = 0; c < layer.in; c++) sum += (double)p.squeeze[h * layer.in + c] * means_of[n * layer.in + c];
            hidden[n * layer.hidden + h] = sum;
        }
}

Statistics statistics_of_hidden(const Layer &layer, const float *hidden) {
    Statistics result(layer.hidden);
    long number = layer.images.number;
    for (long h = 0; h < layer.hidden; h++) {
        double sum = 0, squares = 0;
        for (long n = 0; n < number; n++) sum += hidden[n * layer.hidden + h];
        for (long n = 0; n < number; n++) {
            double difference = hidden[n * layer.hidden + h] - sum / number;
            squares += difference * difference;
        }
        result.mean[h] = sum / number;
        result.variance[h] = squares / number;
    }
    return result;
}

void find_gates(const Layer &layer, const Parameters &p, const float *hidden, const Norm &norm, float *gates) {
    for (long n = 0; n < layer.images.number; n++)
        for (long c = 0; c < layer.in; c++) {
            float sum = p.excite_bias[c];
            for (long h = 0; h < layer.hidden; h++) {
                float value = norm.scale[h] * hidden[n * layer.hidden + h] + norm.shift[h];
                sum += p.excite[c * layer.hidden + h] * (value > 0 ? value : 0);
            }
            gates[n * layer.in + c] = 1 / (1 + std::exp(-sum));
        }
}

// The gates of an image, and these from the last to the first.
Vector flipped(const Layer &layer, const float *gates) {
    Vector result(gates, gates + layer.in);
    std::reverse(result.begin(), result.end());
    return result;
}

// From the gradients of the gates, (N, in), to those of the means of x.
Vector back_through_gates(const Layer &layer, const Parameters &p, const Saved &saved, const Vector &by_gates,
                          const Parameters &by) {
    long number = layer.images.number, hidden = layer.hidden;
    Statistics of(hidden, saved.mean0, saved.variance0);
    Norm norm(of, p.gate_weight, p.gate_bias, layer.epsilon_gate);
    Vector by_hidden(number * hidden), by_scale(hidden), by_offset(hidden), by_means(number * layer.in);
    for (long at = 0; at < number * layer.in; at++) {
        long n = at / layer.in, c = at % layer.in;
        float by_sum = by_gates[at] * saved.gates[at] * (1 - saved.gates[at]);
        by.excite_bias[c] += by_sum;
        for (long h = 0; h < hidden; h++) {
            float value = norm.scale[h] * saved.hidden[n * hidden + h] + norm.shift[h];
            if (value <= 0) continue;
            by.excite[c * hidden + h] += by_sum * value;
            by_hidden[n * hidden + h] += by_sum * p.excite[c * hidden + h];
        }
    }
    for (long at = 0; at < number * hidden; at++) {
        by_scale[at % hidden] += by_hidden[at] * (saved.hidden[at] - of.mean[at % hidden]);
        by_offset[at % hidden] += by_hidden[at];
    }
    Statistics back = back_through_norm(of, p.gate_weight, layer.epsilon_gate, by_scale, by_offset, by.gate_weight,
                                        by.gate_bias);
    BackNorm through(norm, of, back, number);
    for (long at = 0; at < number * hidden; at++) {
        long n = at / hidden, h = at % hidden;
        float by_value = through.scale[h] * by_hidden[at] + through.slope[h] * saved.hidden[at] + through.constant[h];
        for (long c = 0; c < layer.in; c++) {
            by.squeeze[h * layer.in + c] += by_value * saved.means[n * layer.in + c];
            by_means[n * layer.in + c] += by_value * p.squeeze[h * layer.in + c];
        }
    }
    return by_means;
}

// The sums of a norm's gradient over the images.
struct Sums {
    Vector scale, offset;
    explicit Sums(long channels) : scale(CHUNKS * channels), offset(CHUNKS * channels) {}
    NormSums of_chunk(long channels, long chunk) { return NormSums{scale.data(), offset.data()}.of_chunk(channels, chunk); }

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

}  // namespace

extern "C" {

void training(const Layer &layer, const Parameters &p, const float *x, const Saved &saved, float *out) {
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
        end_image(layer, weights, image_of(layer, saved.y1, first, n), image_of(layer, saved.y2, second, n), norm1, norm3,
                  room.z, image_of(layer, out, layer.out, n));
    });
    of0.copy_to(saved.mean0, saved.variance0), of1.copy_to(saved.mean1, saved.variance1);
    of2.copy_to(saved.mean2, saved.variance2), of3.copy_to(saved.mean3, saved.variance3);
}

// by holds zeros; by_z and by_bent are room, (N, H, W, both) and (N, H, W, second).
void backward(const Layer &layer, const Parameters &p, const float *x, const Saved &saved, const float *grad,
              float *by_z, float *by_bent, float *by_x, const Parameters &by) {
    long first = layer.first(), second = layer.second(), width = layer.images.width, taps = layer.kernel.taps();
    Statistics of1(first, saved.mean1, saved.variance1), of2(second, saved.mean2, saved.variance2);
    Statistics of3(second, saved.mean3, saved.variance3);
    Norm norm1(of1, p.weight1, p.bias1, layer.epsilon1), norm2(of2, p.weight2, p.bias2, layer.epsilon2);
    Norm norm3(of3, p.weight3, p.bias3, layer.epsilon3);
    Sums sums1(first), sums2(second), sums3(second);
    Vector by_restore(layer.restores ? CHUNKS * layer.both() * layer.out : 0);
    for_chunks<RowRoom>(layer, [&](RowRoom &room, long chunk, long n) {
        Pixels y1 = image_of(layer, saved.y1, first, n), y2 = image_of(layer, saved.y2, second, n);
        Pixels from = image_of(layer, grad, layer.out, n), to = image_of(layer, by_z, layer.both(), n);
        for (long at = 0; layer.restores && at < layer.images.pixels(); at += width) {
            normalize<Bend::relu>(y1.from(at), width, norm1, room.z);
            normalize<Bend::relu>(y2.from(at), width, norm3, room.z.from(0, first));
            add_products(room.z, layer.both(), from.from(at), layer.out, width,
                         &by_restore[chunk * layer.both() * layer.out]);
            multiply(from.from(at), width, layer.out, p.restore, layer.both(), nullptr, to.from(at));
            bend_back(room.z, width, layer.both(), to.from(at));
        }
        sums1.of_chunk(first, chunk).add(to, y1, layer.images.pixels(), of1.mean);
        sums3.of_chunk(second, chunk).add(to.from(0, first), y2, layer.images.pixels(), of3.mean);
    });
    BackNorm back1 = sums1.back(layer, norm1, of1, p.weight1, layer.epsilon1, by.weight1, by.bias1);
    BackNorm back3 = sums3.back(layer, norm3, of3, p.weight3, layer.epsilon3, by.weight3, by.bias3);
    Vector turned1 = turned(p.conv1, first, first, taps), turned2 = turned(p.conv2, second, second, taps);
    Vector by_kernel1(CHUNKS * taps * first * first), by_kernel2(CHUNKS * taps * second * second);
    Vector by_narrow(CHUNKS * first * second);
    for_chunks<BackRoom>(layer, [&](BackRoom &room, long chunk, long n) {
        Pixels m = image_of(layer, saved.m, second, n), y2 = image_of(layer, saved.y2, second, n);
        Pixels to = image_of(layer, by_bent, second, n);
        back3.apply(layer, image_of(layer, by_z, layer.both(), n).from(0, first), y2, room.by_y2);
        normalize_image<Bend::relu>(layer, m, norm2, room.v);
        for (long r = 0; r < layer.images.height; r++) {
            float *sum = &by_kernel2[chunk * taps * second * second];
            add_row_kernel_gradient(room.v, r, room.by_y2.row(r), second, {sum, second});
            convolve_row(room.by_y2, r, turned2.data(), second, nullptr, to.from(r * width));
            bend_back(room.v.row(r), width, second, to.from(r * width));
        }
        sums2.of_chunk(second, chunk).add(to, m, layer.images.pixels(), of2.mean);
    });
    BackNorm back2 = sums2.back(layer, norm2, of2, p.weight2, layer.epsilon2, by.weight2, by.bias2);
    Vector by_gates(layer.images.number * layer.in);
    for_chunks<BackRoom>(layer, [&](BackRoom &room, long chunk, long n) {
        const float *gates = saved.gates + n * layer.in;
        Vector turned_gates = flipped(layer, gates), by_flipped(layer.in);
        Pixels image = image_of(layer, x, layer.in, n), to = image_of(layer, by_x, layer.in, n);
        Pixels m = image_of(layer, saved.m, second, n), by_m = image_of(layer, by_bent, second, n);
        back1.apply(layer, image_of(layer, by_z, layer.both(), n), image_of(layer, saved.y1, first, n), room.by_y1);
        for (long r = 0; r < layer.images.height; r++)
            fold(layer, image.from(r * width), gates, width, room.u1.row(r));
        for (long r = 0; r < layer.images.height; r++) {
            long at = r * width;
            float *sum = &by_kernel1[chunk * taps * first * first];
            add_row_kernel_gradient(room.u1, r, room.by_y1.row(r), first, {sum, first});
            convolve_row(room.by_y1, r, turned1.data(), first, nullptr, room.by_u);
            back_through_fold<false>(layer, image.from(at), gates, room.by_u, width, to.from(at),
                                     &by_gates[n * layer.in]);
            fold(layer, image.from(at), turned_gates.data(), width, room.u2);
            back2.apply(by_m.from(at), m.from(at), width, room.by_m);
            add_products(room.u2, first, room.by_m, second, width, &by_narrow[chunk * first * second]);
            multiply(room.by_m, width, second, p.narrow, first, nullptr, room.by_u);
            back_through_fold<true>(layer, image.from(at), turned_gates.data(), room.by_u, width, to.from(at),
                                    by_flipped.data());
        }
        for (long c = 0; c < layer.in; c++) by_gates[n * layer.in + c] += by_flipped[layer.in - 1 - c];
    });
    for (Vector *chunks : {&by_restore, &by_kernel1, &by_kernel2, &by_narrow}) sum_chunks(*chunks);
    from_taps(by_kernel1, first, first, taps, by.conv1);
    from_taps(by_kernel2, second, second, taps, by.conv2);
    from_taps(by_narrow, second, first, 1, by.narrow);
    if (layer.restores) from_taps(by_restore, layer.out, layer.both(), 1, by.restore);
    Vector by_means = back_through_gates(layer, p, saved, by_gates, by);
    for (float &value : by_means) value /= layer.images.pixels();
    by_lanes(layer.in, [&](auto lanes) {
        constexpr int L = decltype(lanes)::value;
#pragma omp parallel for schedule(static) num_threads(layer.images.threads)
        for (long n = 0; n < layer.images.number; n++) {
            Pixels to = image_of(layer, by_x, layer.in, n);
            for (long q = 0; q < layer.images.pixels(); q++)
                for (long c = 0; c < layer.in; c += L)
                    store<L>(to[q] + c, load<L>(to[q] + c) + load<L>(&by_means[n * layer.in + c]));
        }
    });
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
        begin_image(layer, weights, image_of(layer, x, layer.in, n), weight, flipped(layer, weight).data(), room, room.y1,
                    room.m);
        go_on_with_image(layer, weights, room.m, norm2, room, room.y2);
        end_image(layer, weights, room.y1, room.y2, norm1, norm3, room.z, image_of(layer, out, layer.out, n));
    });
}
}
