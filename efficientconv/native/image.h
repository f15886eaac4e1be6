// Images whose channels come last: with a border of zeros, and their moments.
#pragma once
#include <algorithm>
#include <new>
#include <vector>

#include "pixels.h"

// Where the processor's lines of 64 bytes begin: a vector that lies across two is two loads.
template <class T>
struct Aligned {
    using value_type = T;
    Aligned() = default;
    template <class Other>
    Aligned(const Aligned<Other> &) {}
    T *allocate(size_t number) { return static_cast<T *>(::operator new(number * sizeof(T), std::align_val_t(64))); }
    void deallocate(T *at, size_t) { ::operator delete(at, std::align_val_t(64)); }
    bool operator==(const Aligned &) const { return true; }
    bool operator!=(const Aligned &) const { return false; }
};

using Vector = std::vector<float, Aligned<float>>;

// How many images there are, and on how many threads they are shared out.
struct Images {
    long threads, number, height, width;
    long pixels() const { return height * width; }
};

// A kernel of odd size, and the border that keeps the size of an image.
struct Kernel {
    long rows, columns, row_dilation, column_dilation;
    long taps() const { return rows * columns; }
    long above() const { return row_dilation * (rows - 1) / 2; }
    long left() const { return column_dilation * (columns - 1) / 2; }
};

// Calls prepare for each row of an image in time before use for the rows whose taps reach it: while what was prepared
// lies in the nearest cache.
template <class Prepare, class Use>
inline void by_rows(const Images &images, const Kernel &kernel, Prepare prepare, Use use) {
    for (long r = 0; r < images.height + kernel.above(); r++) {
        if (r < images.height) prepare(r);
        if (r >= kernel.above()) use(r - kernel.above());
    }
}

// Asks for pixels that will soon be read, or written, while something else is computed.
enum class For { reading, writing };

template <For PURPOSE>
inline void fetch(Pixels x, long pixels) {
    for (long at = 0; at < pixels * x.stride; at += 16) __builtin_prefetch(x.data + at, PURPOSE == For::writing, 2);
}

// to = the first `channels` of x; a call to copy so few floats would take longer than the copy.
inline void copy_pixels(Pixels x, long pixels, long channels, Pixels to) {
    if (x.stride == channels && to.stride == channels) {
        std::copy_n(x.data, pixels * channels, to.data);
        return;
    }
    for (long p = 0; p < pixels; p++)
        for (long c = 0; c < channels; c += 8)
            if (c + 8 <= channels)
                store<8>(to[p] + c, load<8>(x[p] + c));
            else
                std::copy_n(x[p] + c, channels - c, to[p] + c);
}

// An image with a border of zeros.
class Padded {
  public:
    Padded(const Images &images, const Kernel &kernel, long depth)
        : images(images), kernel(kernel), depth(depth), joined(kernel.column_dilation == 1 ? kernel.columns : 1),
          line((images.width + 2 * kernel.left()) * depth), offsets(kernel.taps()),
          data((images.height + 2 * kernel.above()) * line) {
        for (long t = 0; t < kernel.taps(); t++)
            offsets[t] =
                t / kernel.columns * kernel.row_dilation * line + t % kernel.columns * kernel.column_dilation * depth;
        for (long t = 0; t < kernel.taps(); t += joined) starts.push_back(offsets[t]);
    }

    // The pixels of a row of the image.
    Pixels row(long r) const { return {data.data() + (r + kernel.above()) * line + kernel.left() * depth, depth}; }

    // The pixels that a tap of the kernel reads for a row of its output.
    Pixels tap(long r, long tap) const { return {data.data() + r * line + offsets[tap], depth}; }

    // Where all taps lie, behind tap(r, 0).
    Taps taps() const { return {kernel.taps(), offsets.data()}; }

    // The same, where those that lie side by side are one, of `joined`·depth channels.
    Taps runs() const { return {(long)starts.size(), starts.data()}; }

    // Fills the image with the first `depth` channels of another.
    void fill(Pixels x) const {
        for (long r = 0; r < images.height; r++) copy_pixels(x.from(r * images.width), images.width, depth, row(r));
    }

    const Images images;
    const Kernel kernel;
    const long depth, joined;
    const long line;  // floats of a row with its border

  private:
    std::vector<long> offsets, starts;
    Vector data;
};

// Row r of the convolution of an image with w, (taps, depth, width); width is a multiple of 8.
template <Start START = Start::zero>
void convolve_row(const Padded &x, long r, const float *w, long width, const float *bias, Pixels y) {
    convolve<START>(x.tap(r, 0), x.runs(), x.images.width, x.joined * x.depth, w, width, bias, y);
}

// y = the convolution of an image with w, (taps, depth, width); width is a multiple of 8.
template <Start START = Start::zero>
void convolve(const Padded &x, const float *w, long width, const float *bias, Pixels y) {
    for (long r = 0; r < x.images.height; r++) convolve_row<START>(x, r, w, width, bias, y.from(r * x.images.width));
}

// How many rows of an image are met at once where a kernel's gradient is summed: it is read and written for each strip.
inline long strip(const Images &images, long r) {
    return std::min(std::max(1L, 64 / images.width), images.height - r);
}

// What rows of y, `line` floats one behind the other, add to the gradient of w, for by_y, their gradient.
inline void add_strip_kernel_gradient(const Padded &x, long r, long rows, Pixels by_y, long line, long width,
                                      Pixels w) {
    for (long tap = 0; tap < x.kernel.taps(); tap += x.joined)
        add_products(x.tap(r, tap), x.joined * x.depth, by_y, width, x.images.width, w.from(tap * x.depth),
                     {rows, x.line, line});
}

// w += its gradient, (taps, depth, width), for by_y, the gradient of y. That of x is the convolution of by_y with the
// kernel turned by half a circle and its matrices transposed.
inline void add_kernel_gradient(const Padded &x, Pixels by_y, long width, float *w) {
    long line = x.images.width * by_y.stride;
    for (long r = 0, rows; r < x.images.height; r += rows) {
        rows = strip(x.images, r);
        add_strip_kernel_gradient(x, r, rows, by_y.from(r * x.images.width), line, width, {w, width});
    }
}

// The same for by_y with a border.
inline void add_kernel_gradient(const Padded &x, const Padded &by_y, Pixels w) {
    for (long r = 0, rows; r < x.images.height; r += rows) {
        rows = strip(x.images, r);
        add_strip_kernel_gradient(x, r, rows, by_y.row(r), by_y.line, by_y.depth, w);
    }
}

// Sums over pixels, four at a time, so that one addition need not wait for the last.
template <int L, class Term>
inline Vec<L> sum_over(long pixels, Term term) {
    Vec<L> sum[4] = {};
    long p = 0;
    for (; p + 4 <= pixels; p += 4)
#pragma GCC unroll 4
        for (int i = 0; i < 4; i++) sum[i] += term(p + i);
    for (; p < pixels; p++) sum[0] += term(p);
    return (sum[0] + sum[1]) + (sum[2] + sum[3]);
}

// sum += the sum over pixels, (channels,).
template <int L>
void add_sum(Pixels x, long pixels, long channels, float *sum) {
    for (long c = 0; c < channels; c += L)
        store<L>(sum + c, load<L>(sum + c) + sum_over<L>(pixels, [&](long p) { return load<L>(x[p] + c); }));
}

// to = x − mean.
template <int L>
void centre(Pixels x, long pixels, long channels, const float *mean, Pixels to) {
    for (long p = 0; p < pixels; p++)
        for (long c = 0; c < channels; c += L) store<L>(to[p] + c, load<L>(x[p] + c) - load<L>(mean + c));
}

// Of an image: the mean of each channel.
template <int L>
void means(Pixels x, long pixels, long channels, float *mean) {
    for (long c = 0; c < channels; c += L)
        store<L>(mean + c, sum_over<L>(pixels, [&](long p) { return load<L>(x[p] + c); }) / (float)pixels);
}

// Of an image: the mean of each channel, and the sum of the squares of the differences from it.
template <int L>
void moments(Pixels x, long pixels, long channels, float *mean, float *squares) {
    means<L>(x, pixels, channels, mean);
    for (long c = 0; c < channels; c += L)
        store<L>(squares + c, sum_over<L>(pixels, [&](long p) {
                     Vec<L> difference = load<L>(x[p] + c) - load<L>(mean + c);
                     return difference * difference;
                 }));
}

// Images are shared out in chunks whose number depends on nothing else, and so do sums over images.
constexpr long CHUNKS = 16;

template <class Function>
inline void for_images_of(long chunk, const Images &images, Function function) {
    for (long n = chunk * images.number / CHUNKS; n < (chunk + 1) * images.number / CHUNKS; n++) function(n);
}

// products += xᵀ·x, (C, C), as far as a product is on the diagonal or above it; `mirror` does the rest.
inline void add_upper_products(Pixels x, long channels, long pixels, float *products) {
    for (long k = 0; k < channels; k += 16)
        add_products(x.from(0, k), std::min(16L, channels - k), x.from(0, k), channels - k, pixels,
                     Pixels(products + k * channels + k, channels));
}

inline void mirror(long channels, float *products) {
    for (long r = 0; r < channels; r++)
        for (long c = 0; c < r; c++) products[r * channels + c] = products[c * channels + r];
}

// Of an image: the mean of each channel, and added, the upper products of the differences from it, (C, C).
template <int L>
void add_covariance(Pixels image, const Images &images, long channels, Pixels differences, float *mean,
                    float *products) {
    means<L>(image, images.pixels(), channels, mean);
    for (long r = 0; r < images.height; r++) {
        centre<L>(image.from(r * images.width), images.width, channels, mean, differences);
        add_upper_products(differences, channels, images.width, products);
    }
}

// The mean of each image, (N, C), and for each chunk the upper products of the differences from it, (C, C).
template <int L>
void add_covariances(const Images &images, const float *x, long channels, float *image_means, float *products) {
#pragma omp parallel num_threads(images.threads)
    {
        Vector row(images.width * channels);
#pragma omp for schedule(static)
        for (long chunk = 0; chunk < CHUNKS; chunk++)
            for_images_of(chunk, images, [&](long n) {
                add_covariance<L>({x + n * images.pixels() * channels, channels}, images, channels,
                                  {row.data(), channels}, image_means + n * channels,
                                  products + chunk * channels * channels);
            });
    }
}
