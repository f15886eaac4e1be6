// BDRConv as one operator.
//
// Three things have to be known of all images before the next can be computed: the statistics of the first batch norm,
// those of the second, and, of each image, the gate. Between them an image goes through the layer in one pass. The
// first norm's input is linear in x: its statistics follow from the mean and the covariance of x, and it is never
// written.
#include "bdrconv_passes.h"
#include "norm.h"

namespace {

// The parameters or their gradients, each as its module has it.
struct Parameters {
    float *main, *expand, *diversity;  // (base, main), (out, other), (diverse, planes, taps)
    float *weight1, *bias1, *weight2, *bias2, *squeeze, *squeeze_bias, *excite, *excite_bias;

    SqueezeExcitation gate(const Layer &layer) const {
        return {squeeze, squeeze_bias, excite, excite_bias, layer.out, layer.hidden};
    }
};

// What the backward pass needs of the forward pass besides x.
struct Saved {
    float *y, *means;          // (N, H, W, out), (N, out)
    float *pooled;             // x, where it is not strided: (N, H, W, in)
    float *mean, *covariance;  // of that: (in,), (in, in)
    float *mean1, *variance1;  // of the first norm's input, (features,)
    float *mean2, *variance2;  // of y, (out,)
};

// The weights in the order of the passes. Feature f is plane f % planes of group f / planes.
struct Arranged {
    Vector rows;  // what makes the first norm's input of the channels of x, (features, in)
    Vector expansion, shift, diversity, main, expand;
    Taken taken;

    Arranged(const Layer &layer, const Parameters &p)
        : rows(layer.features() * layer.in), expansion(layer.in * layer.features()), shift(layer.features()),
          diversity(layer.of_group * layer.kernel.taps() * layer.features()),
          main(transposed(p.main, layer.base(), layer.main)), expand(transposed(p.expand, layer.out, layer.other())),
          taken(layer) {
        for (long f = 0; f < layer.main; f++) rows[f * layer.in + f] = 1;
        for (long f = 0; f < layer.out; f++)
            std::copy_n(p.expand + f * layer.other(), layer.other(), &rows[(layer.main + f) * layer.in + layer.main]);
        for_diversity(layer, [&](long here, long there) { diversity[here] = p.diversity[there]; });
    }

    // Calls with the place of each weight here and in the parameter.
    template <class Function>
    static void for_diversity(const Layer &layer, Function function) {
        long taps = layer.kernel.taps();
        for (long c = 0; c < layer.diverse(); c++)
            for (long plane = 0; plane < layer.planes; plane++)
                for (long tap = 0; tap < taps; tap++)
                    function(
                        (c % layer.of_group * taps + tap) * layer.features() + plane * layer.main + c / layer.of_group,
                        (c * layer.planes + plane) * taps + tap);
    }

    static long place(const Layer &layer, long f) { return f % layer.planes * layer.main + f / layer.planes; }

    // With the first norm in it.
    void normalize(const Layer &layer, const Norm &norm) {
        for (long f = 0; f < layer.features(); f++) {
            shift[place(layer, f)] = norm.shift[f];
            for (long i = 0; i < layer.in; i++)
                expansion[i * layer.features() + place(layer, f)] = norm.scale[f] * rows[f * layer.in + i];
            if (f >= layer.main) continue;
            taken.scale[place(layer, f)] = norm.scale[f];
            taken.source[place(layer, f)] = f;
        }
    }

    Weights weights() const {
        return {expansion.data(), shift.data(), taken, diversity.data(), main.data(), expand.data()};
    }
};

// (features, in) = rows·covariance.
Vector times_covariance(const Layer &layer, const Vector &rows, const float *covariance) {
    Vector result(rows.size());
    multiply({rows.data(), layer.in}, layer.features(), layer.in, covariance, layer.in, nullptr,
             {result.data(), layer.in});
    return result;
}

// Of rows·x.
Statistics statistics_of_features(const Layer &layer, const Vector &rows, const float *mean, const float *covariance) {
    Statistics result(layer.features());
    Vector products = times_covariance(layer, rows, covariance);
    for (long f = 0; f < layer.features(); f++) {
        const float *row = &rows[f * layer.in], *product = &products[f * layer.in];
        double middle = 0, variance = 0;
        for (long i = 0; i < layer.in; i++) {
            middle += (double)row[i] * mean[i];
            variance += (double)row[i] * product[i];
        }
        result.mean[f] = middle;
        result.variance[f] = std::max(variance, 0.);
    }
    return result;
}

// What the gate makes of the second norm: for each image w·scale and w·shift, (N, out).
struct Gates {
    Vector squeezed, hidden, weights, scales, shifts;

    Gates(const Layer &layer, const SqueezeExcitation &gate, const Norm &norm, const float *means)
        : squeezed(layer.images.number * layer.out), hidden(layer.images.number * layer.hidden),
          weights(squeezed.size()), scales(squeezed.size()), shifts(squeezed.size()) {
        for (long n = 0; n < layer.images.number; n++) {
            long first = n * layer.out;
            for (long c = 0; c < layer.out; c++) squeezed[first + c] = norm.scale[c] * means[first + c] + norm.shift[c];
            gate.weigh(&squeezed[first], &hidden[n * layer.hidden], &weights[first]);
            for (long c = 0; c < layer.out; c++) {
                scales[first + c] = weights[first + c] * norm.scale[c];
                shifts[first + c] = weights[first + c] * norm.shift[c];
            }
        }
    }
};

// The gradient of y, as the passes take it.
struct ByY {
    Vector slope, constants;  // (out,), (N, out)
};

ByY back_through_gates(const Layer &layer, const Parameters &p, const Saved &saved, const Gates &gates,
                       const Norm &norm, const Statistics &of, const Vector &by_scales, const Vector &by_offsets,
                       const Parameters &by) {
    const Images &images = layer.images;
    Vector by_scale(layer.out), by_offset(layer.out), by_weights(layer.out), by_squeezed(layer.out);
    ByY result{Vector(layer.out), Vector(images.number * layer.out)};
    for (long n = 0; n < images.number; n++) {
        long first = n * layer.out;
        for (long c = 0; c < layer.out; c++)
            by_weights[c] = by_scales[first + c] * norm.scale[c] + by_offsets[first + c] * p.bias2[c];
        p.gate(layer).back(&gates.squeezed[first], &gates.hidden[n * layer.hidden], &gates.weights[first],
                           by_weights.data(), by_squeezed.data(), by.gate(layer));
        for (long c = 0; c < layer.out; c++) {
            long at = first + c;
            by_scale[c] += gates.weights[at] * by_scales[at] + by_squeezed[c] * (saved.means[at] - of.mean[c]);
            by_offset[c] += gates.weights[at] * by_offsets[at] + by_squeezed[c];
            result.constants[at] = by_squeezed[c] * norm.scale[c] / images.pixels();
        }
    }
    Statistics back = back_through_norm(of, p.weight2, layer.epsilon2, by_scale, by_offset, by.weight2, by.bias2);
    double count = images.number * images.pixels();
    for (long c = 0; c < layer.out; c++) {
        result.slope[c] = 2 * back.variance[c] / count;
        double constant = back.mean[c] / count - (double)result.slope[c] * of.mean[c];
        for (long n = 0; n < images.number; n++) result.constants[n * layer.out + c] += constant;
    }
    return result;
}

// The gradients of the weights, summed over the chunks; that of the expansion for x less its mean.
struct ByWeights {
    Vector expansion, shift, diversity, main, expand;

    explicit ByWeights(const Layer &layer)
        : expansion(CHUNKS * layer.in * layer.features()), shift(CHUNKS * layer.features()),
          diversity(CHUNKS * layer.of_group * layer.kernel.taps() * layer.features()),
          main(CHUNKS * layer.main * layer.base()), expand(CHUNKS * layer.other() * layer.out) {}

    void sum() {
        for (Vector *chunks : {&expansion, &shift, &diversity, &main, &expand}) sum_chunks(*chunks);
    }
};

// What the statistics of x add to its gradient: slope·x + constant.
struct ByStatistics {
    Vector slope, constant;  // (in, in), (in,)
};

ByStatistics back_through_expansion(const Layer &layer, const Parameters &p, const Saved &saved,
                                    const Arranged &arranged, const Norm &norm, const Statistics &of,
                                    const ByWeights &by_weights, const Parameters &by) {
    long in = layer.in, features = layer.features();
    const Vector &rows = arranged.rows;
    Vector by_scale(features), by_offset(features), by_rows(rows.size());
    for (long f = 0; f < features; f++) {
        long at = Arranged::place(layer, f);
        by_offset[f] = by_weights.shift[at];
        double sum = 0;
        for (long i = 0; i < in; i++) {
            float by_product = by_weights.expansion[i * features + at];
            sum += (double)by_product * rows[f * in + i];
            by_rows[f * in + i] = by_product * norm.scale[f];
        }
        by_scale[f] = sum;
    }
    Statistics back = back_through_norm(of, p.weight1, layer.epsilon1, by_scale, by_offset, by.weight1, by.bias1);
    Vector products = times_covariance(layer, rows, saved.covariance), scaled(rows.size());
    ByStatistics result{Vector(in * in), Vector(in)};
    double count = layer.images.number * layer.images.pixels();
    for (long f = 0; f < features; f++)
        for (long i = 0; i < in; i++) {
            long at = f * in + i;
            by_rows[at] += 2 * back.variance[f] * products[at];  // the means of x and of the features move together
            scaled[at] = 2 * back.variance[f] / count * rows[at];
            result.constant[i] += back.mean[f] / count * rows[at];
        }
    add_products({rows.data(), in}, in, {scaled.data(), in}, in, features, result.slope.data());
    for (long i = 0; i < in; i++)
        for (long j = 0; j < in; j++) result.constant[i] -= saved.mean[j] * result.slope[j * in + i];
    for (long f = 0; f < layer.out; f++)
        for (long i = 0; i < layer.other(); i++)
            by.expand[f * layer.other() + i] =
                by_rows[(layer.main + f) * in + layer.main + i] + by_weights.expand[i * layer.out + f];
    return result;
}

}  // namespace

extern "C" {

void forward(const Layer &layer, const Parameters &p, const float *x, const Saved &saved, float *out) {
    Vector squares(layer.images.number * layer.out);
    if (layer.stride.pixels() > 1)
        by_lanes(layer.in, [&](auto lanes) {
            pool<decltype(lanes)::value>(layer.images, layer.stride, x, layer.in, saved.pooled);
        });
    Input input{x, saved.pooled};
    mean_and_covariance(layer.images, saved.pooled, layer.in, saved.mean, saved.covariance);
    Arranged arranged(layer, p);
    Statistics first = statistics_of_features(layer, arranged.rows, saved.mean, saved.covariance);
    arranged.normalize(layer, Norm(first, p.weight1, p.bias1, layer.epsilon1));
    by_lanes(layer.main, [&](auto lanes) {
        constexpr int L = decltype(lanes)::value;
        forward_images<L>(layer, arranged.weights(), input, saved.y, saved.means, squares.data());
    });
    Statistics second(layer.images, layer.out, saved.means, squares.data());
    Gates gates(layer, p.gate(layer), Norm(second, p.weight2, p.bias2, layer.epsilon2), saved.means);
    by_lanes(layer.out, [&](auto lanes) {
        constexpr int L = decltype(lanes)::value;
        gate_images<L>(layer, arranged.weights(), input, saved.y, gates.scales.data(), gates.shifts.data(), out);
    });
    first.copy_to(saved.mean1, saved.variance1);
    second.copy_to(saved.mean2, saved.variance2);
}

// by holds zeros.
void backward(const Layer &layer, const Parameters &p, const float *x, const Saved &saved, const float *grad,
              float *by_x, const Parameters &by) {
    const Images &images = layer.images;
    Statistics first(layer.features(), saved.mean1, saved.variance1), second(layer.out, saved.mean2, saved.variance2);
    Norm norm1(first, p.weight1, p.bias1, layer.epsilon1), norm2(second, p.weight2, p.bias2, layer.epsilon2);
    Arranged arranged(layer, p);
    arranged.normalize(layer, norm1);
    Gates gates(layer, p.gate(layer), norm2, saved.means);
    Vector by_scales(images.number * layer.out), by_offsets(images.number * layer.out);
    by_lanes(layer.out, [&](auto lanes) {
        constexpr int L = decltype(lanes)::value;
        sum_images<L>(layer, grad, saved.y, saved.mean2, by_scales.data(), by_offsets.data());
    });
    ByY by_y = back_through_gates(layer, p, saved, gates, norm2, second, by_scales, by_offsets, by);
    ByWeights by_weights(layer);
    Vector expansion = transposed(arranged.expansion.data(), layer.in, layer.features());
    bool strides = layer.stride.pixels() > 1;
    Vector by_pooled(strides ? images.number * images.pixels() * layer.in : 0);
    Vector by_taken(strides ? images.number * images.pixels() * layer.main : 0);
    float *by_input = strides ? by_pooled.data() : by_x;
    Given given{{x, saved.pooled},
                saved.y,
                grad,
                arranged.weights(),
                expansion.data(),
                p.main,
                p.expand,
                gates.scales.data(),
                by_y.slope.data(),
                by_y.constants.data(),
                saved.mean};
    Found found{by_input,
                strides ? Pixels(by_taken.data(), layer.main) : Pixels(by_x, layer.in),
                by_weights.expansion.data(),
                by_weights.shift.data(),
                by_weights.diversity.data(),
                by_weights.main.data(),
                by_weights.expand.data()};
    by_lanes(layer.main, [&](auto lanes) { back_images<decltype(lanes)::value>(layer, given, found); });
    by_weights.sum();
    Arranged::for_diversity(layer, [&](long here, long there) { by.diversity[there] = by_weights.diversity[here]; });
    for (long a = 0; a < layer.base(); a++)
        for (long m = 0; m < layer.main; m++) by.main[a * layer.main + m] = by_weights.main[m * layer.base() + a];
    ByStatistics to_x = back_through_expansion(layer, p, saved, arranged, norm1, first, by_weights, by);
    by_lanes(layer.in, [&](auto lanes) {
        constexpr int L = decltype(lanes)::value;
        add_to_x<L>(layer, saved.pooled, to_x.slope.data(), to_x.constant.data(), by_input);
        if (strides) back_through_pool<L>(images, layer.stride, by_input, by_taken.data(), layer.main, layer.in, by_x);
    });
}

// With the scale and the shift of each norm in the places of its weight and its bias; then the output's, (out,).
// shortcut may be null.
void inference(const Layer &layer, const Parameters &p, const float *out_scale, const float *out_shift, const float *x,
               const float *shortcut, long activates, float *pooled, float *out) {
    if (layer.stride.pixels() > 1)
        by_lanes(layer.in,
                 [&](auto lanes) { pool<decltype(lanes)::value>(layer.images, layer.stride, x, layer.in, pooled); });
    Arranged arranged(layer, p);
    arranged.normalize(layer, Norm(p.weight1, p.bias1, layer.features()));
    for (long at = 0; at < layer.other() * layer.out; at++) arranged.expand[at] *= out_scale[at % layer.out];
    Norm norm(p.weight2, p.bias2, layer.out);
    SqueezeExcitation gate = p.gate(layer);
    auto find = [&](const float *mean, float *scale, float *shift) {
        Vector squeezed(layer.out), hidden(layer.hidden), weights(layer.out);
        for (long c = 0; c < layer.out; c++) squeezed[c] = norm.scale[c] * mean[c] + norm.shift[c];
        gate.weigh(squeezed.data(), hidden.data(), weights.data());
        for (long c = 0; c < layer.out; c++) {
            scale[c] = out_scale[c] * weights[c] * norm.scale[c];
            shift[c] = out_scale[c] * weights[c] * norm.shift[c] + out_shift[c];
        }
    };
    by_lanes(layer.main, [&](auto lanes) {
        infer_images<decltype(lanes)::value>(layer, arranged.weights(), Input{x, pooled}, find,
                                             {shortcut, activates, out}, out);
    });
}
}
