// Functions of vectors, for the types Floats and Ints of the file that includes this.

inline Floats all(float x) { return Floats{} + x; }
inline Floats fmin(Floats x, Floats y) { return x < y ? x : y; }
inline Floats fmax(Floats x, Floats y) { return x > y ? x : y; }
inline Floats fabs(Floats x) { return fmax(x, -x); }

// 2^n e^r with abs(r) <= ln(2) / 2; the polynomial for e^r is that of Cephes (expf).
inline Floats exp(Floats x) {
    const float rounding = 12582912;  // 1.5 * 2^23: adding it leaves the nearest integer
    x = fmin(fmax(x, all(-87)), all(88));
    const Floats shifted = x * 1.44269504f + rounding, n = shifted - rounding;
    const Floats r = (x - n * 0.693359375f) + n * 2.12194440e-4f;
    Floats p = all(1.9875691500e-4f);
    p = p * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * (r * r) + r + 1;
    return (Floats)((Ints)p + ((Ints)shifted << 23));
}

inline Floats sigmoid(Floats x) {
    const Floats decay = exp(-fabs(x));
    return (x < 0 ? decay : all(1)) / (1 + decay);
}
