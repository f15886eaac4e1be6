// Batch norms as a scale and a shift of each channel, and squeeze-excitation: what is small beside the activations.
#pragma once
#include <algorithm>
#include <cmath>

#include "image.h"
#include "sigmoid.h"

inline Vector transposed(const float *matrix, long rows, long columns) {
    Vector result(rows * columns);
    for (long r = 0; r < rows; r++)
        for (long c = 0; c < columns; c++) result[c * rows + r] = matrix[r * columns + c];
    return result;
}

// Leaves the sum over the chunks in the place of the first.
inline void sum_chunks(Vector &chunks) {
    size_t size = chunks.size() / CHUNKS;
    for (long chunk = 1; chunk < CHUNKS; chunk++)
        for (size_t at = 0; at < size; at++) chunks[at] += chunks[chunk * size + at];
}

// Of the pixels of all images, (C,); the variance is the biased one.
struct Statistics {
    Vector mean, variance;

    explicit Statistics(long channels) : mean(channels), variance(channels) {}
    Statistics(long channels, const float *mean, const float *variance)
        : mean(mean, mean + channels), variance(variance, variance + channels) {}

    void copy_to(float *means, float *variances) const {
        std::copy(mean.begin(), mean.end(), means);
        std::copy(variance.begin(), variance.end(), variances);
    }

    // Of each image's mean, (N, C), and of the sums of its squared differences from it.
    Statistics(const Images &images, long channels, const float *means, const float *squares) : Statistics(channels) {
        for (long c = 0; c < channels; c++) {
            double sum = 0, within = 0, between = 0;
            for (long n = 0; n < images.number; n++) sum += means[n * channels + c];
            mean[c] = sum / images.number;
            for (long n = 0; n < images.number; n++) {
                double difference = means[n * channels + c] - sum / images.number;
                within += squares[n * channels + c];
                between += difference * difference;
            }
            variance[c] = (within / images.pixels() + between) / images.number;
        }
    }
};

// Of the pixels of all images, (C,), and (C, C), the biased one, from each image's mean, (N, C), and, for each chunk,
// the upper products of the differences from it, (C, C); both are changed.
inline void join_covariances(const Images &images, long channels, Vector &means, Vector &products, float *mean,
                             float *covariance) {
    Vector squares(means.size());
    sum_chunks(products);
    mirror(channels, products.data());
    Statistics between(images, channels, means.data(), squares.data());
    std::copy(between.mean.begin(), between.mean.end(), mean);
    for (long n = 0; n < images.number; n++)
        for (long c = 0; c < channels; c++) means[n * channels + c] -= mean[c];
    for (float &product : products) product /= images.pixels();
    add_products({means.data(), channels}, channels, {means.data(), channels}, channels, images.number,
                 products.data());
    for (long at = 0; at < channels * channels; at++) covariance[at] = products[at] / images.number;
}

// The same, of x.
inline void mean_and_covariance(const Images &images, const float *x, long channels, float *mean, float *covariance) {
    Vector means(images.number * channels), products(CHUNKS * channels * channels);
    by_lanes(channels, [&](auto lanes) {
        add_covariances<decltype(lanes)::value>(images, x, channels, means.data(), products.data());
    });
    join_covariances(images, channels, means, products, mean, covariance);
}

// scale·x + shift, each (C,).
struct Norm {
    Vector scale, shift;

    Norm(const float *scale, const float *shift, long channels)
        : scale(scale, scale + channels), shift(shift, shift + channels) {}

    Norm(const Statistics &of, const float *weight, const float *bias, double epsilon)
        : scale(of.mean.size()), shift(of.mean.size()) {
        for (size_t c = 0; c < scale.size(); c++) {
            scale[c] = weight[c] / std::sqrt(of.variance[c] + epsilon);
            shift[c] = bias[c] - of.mean[c] * scale[c];
        }
    }
};

// The gradients of the statistics, from those of scale and offset in scale·(x − mean) + offset; those of weight and
// bias are written. The gradient of the scale in scale·x + shift would lose digits where the mean is far from zero.
inline Statistics back_through_norm(const Statistics &of, const float *weight, double epsilon, const Vector &by_scale,
                                    const Vector &by_offset, float *by_weight, float *by_bias) {
    Statistics by(of.mean.size());
    for (size_t c = 0; c < by_scale.size(); c++) {
        double reciprocal = 1 / std::sqrt(of.variance[c] + epsilon);
        by_weight[c] = by_scale[c] * reciprocal;
        by_bias[c] = by_offset[c];
        by.mean[c] = -by_offset[c] * weight[c] * reciprocal;
        by.variance[c] = -0.5 * by_scale[c] * weight[c] * reciprocal * reciprocal * reciprocal;
    }
    return by;
}

// sigmoid(excite·ReLU(squeeze·means + squeeze_bias) + excite_bias), for each image.
struct SqueezeExcitation {
    float *squeeze, *squeeze_bias, *excite, *excite_bias;  // (hidden, C), (hidden,), (C, hidden), (C,)
    long channels, hidden;

    // Writes the hidden values, (hidden,), and the weights, (C,), of one image.
    void weigh(const float *means, float *hiddens, float *weights) const {
        for (long h = 0; h < hidden; h++) {
            float sum = squeeze_bias[h];
            for (long c = 0; c < channels; c++) sum += squeeze[h * channels + c] * means[c];
            hiddens[h] = sum > 0 ? sum : 0;
        }
        for (long c = 0; c < channels; c++) {
            float sum = excite_bias[c];
            for (long h = 0; h < hidden; h++) sum += excite[c * hidden + h] * hiddens[h];
            weights[c] = sigmoid(sum);
        }
    }

    // Writes the gradient of the means of one image, and adds to those of the parameters.
    void back(const float *means, const float *hiddens, const float *weights, const float *by_weights, float *by_means,
              const SqueezeExcitation &by) const {
        Vector by_hidden(hidden);
        for (long c = 0; c < channels; c++) {
            float by_sum = by_weights[c] * weights[c] * (1 - weights[c]);
            by.excite_bias[c] += by_sum;
            for (long h = 0; h < hidden; h++) {
                by.excite[c * hidden + h] += by_sum * hiddens[h];
                by_hidden[h] += by_sum * excite[c * hidden + h];
            }
        }
        std::fill(by_means, by_means + channels, 0.f);
        for (long h = 0; h < hidden; h++) {
            if (hiddens[h] <= 0) continue;
            by.squeeze_bias[h] += by_hidden[h];
            for (long c = 0; c < channels; c++) {
                by.squeeze[h * channels + c] += by_hidden[h] * means[c];
                by_means[c] += by_hidden[h] * squeeze[h * channels + c];
            }
        }
    }
};
