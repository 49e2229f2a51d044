/* One decode step of small Llamas on a CPU: a token of each row, of all layers, in one call.

Every row has its own keys and values, so that no row is padded. Sums run in the same order for any
number of rows and threads: what a row is answered does not depend on which others are beside it.
Vectors are those of GCC and Clang, which make them of what the CPU has.

Layouts (floats; `wide(n)` is n rounded up to whole vectors, the rest is zero):
  weights   panels of NR outputs: (outputs / NR, inputs, NR)
  keys      of a row: (layers, key heads, blocks, head size, VL): VL tokens a block
  values    of a row: (layers, key heads, tokens, wide(head size))
*/

#include <math.h>
#include <stdint.h>
#include <string.h>

#if defined(__AVX512F__)
enum { VL = 16, MR = 8 }; /* 2 vectors of 8 rows are 16 of 32 registers */
#elif defined(__AVX__)
enum { VL = 8, MR = 4 };
#else
enum { VL = 4, MR = 8 };
#endif
enum { NR = 2 * VL };
enum { AHEAD = 16 };

typedef float vec __attribute__((vector_size(VL * sizeof(float))));
typedef int32_t ivec __attribute__((vector_size(VL * sizeof(float))));
typedef float stored __attribute__((vector_size(VL * sizeof(float)), aligned(4), may_alias));

typedef struct {
    int32_t layers, hidden, heads, kv_heads, head_size, width, vocabulary;
    float eps, scale;                  /* of the norms; of the queries */
    const float *embedding;            /* (vocabulary, hidden) */
    const float *const *weights;       /* of each layer: qkv, from heads, gate and up, down; the head */
    const float *norms;                /* two of each layer, and the last: (2 layers + 1, hidden in panels) */
    const float *rotations;            /* (positions, head size): cosines, then sines */
} Model;

typedef struct {
    int64_t id, n_tokens, room;        /* last token; tokens that are stored; tokens there is room for */
    float *keys, *values;
} Row;

static int wide(int n) { return (n + VL - 1) / VL * VL; }
static int in_panels(int n) { return (n + NR - 1) / NR * NR; }
static vec load(const float *from) { return *(const stored *)from; }
static void store(float *to, vec value) { *(stored *)to = value; }
static vec every(float value) { return value - (vec){0}; }

static float sum_of(vec value) {
    float sum = 0;
    for (int i = 0; i < VL; i++) sum += value[i];
    return sum;
}

/* e to the power of x, within 2 units of the last place; x is cut to what a float holds. */
static vec exponential(vec x) {
    x = (vec)(((ivec)x & (x > -87.0f)) | ((ivec)every(-87.0f) & ~(x > -87.0f)));
    x = (vec)(((ivec)x & (x < 88.0f)) | ((ivec)every(88.0f) & ~(x < 88.0f)));
    const vec whole = (x * 1.44269504f + 12582912.0f) - 12582912.0f; /* rounds to the nearest */
    const vec rest = (x - whole * 0.693359375f) + whole * 2.12194440e-4f;
    vec y = every(1.9875691500e-4f);
    y = y * rest + 1.3981999507e-3f;
    y = y * rest + 8.3334519073e-3f;
    y = y * rest + 4.1665795894e-2f;
    y = y * rest + 1.6666665459e-1f;
    y = y * rest + 5.0000001201e-1f;
    y = y * rest * rest + rest + 1.0f;
    return (vec)((ivec)y + (__builtin_convertvector(whole, ivec) << 23));
}

/* Products of `rows` rows with a panel of weights; `rows` is known where this is compiled in. */
static inline __attribute__((always_inline)) void panel_product(
    const int rows, int k, const float *x, int ldx, const float *panel, float *y, int ldy, int adds) {
    vec sums[MR][2];
    for (int r = 0; r < rows; r++) sums[r][0] = sums[r][1] = (vec){0};
    for (int i = 0; i < k; i++) {
        __builtin_prefetch(panel + (i + AHEAD) * NR);
        __builtin_prefetch(panel + (i + AHEAD) * NR + VL);
        const vec left = load(panel + i * NR), right = load(panel + i * NR + VL);
        for (int r = 0; r < rows; r++) {
            const float value = x[r * ldx + i];
            sums[r][0] += value * left;
            sums[r][1] += value * right;
        }
    }
    for (int r = 0; r < rows; r++) {
        float *to = y + r * ldy;
        if (adds) sums[r][0] += load(to), sums[r][1] += load(to + VL);
        store(to, sums[r][0]);
        store(to + VL, sums[r][1]);
    }
}

/* y (m, n in panels) = or += x (m, k) times weights. A panel is read once for all rows. */
static void product(int m, int k, int n, const float *x, int ldx, const float *weights, float *y,
                    int ldy, int adds) {
#define ROWS(n) panel_product(n, k, x + row * ldx, ldx, weights, to, ldy, adds)
    for (int column = 0; column < n; column += NR, weights += (size_t)k * NR) {
        int row = 0;
        float *to = y + column;
        for (; row + MR <= m; row += MR, to += MR * ldy) ROWS(MR);
        switch (m - row) {
            case 7: ROWS(7 < MR ? 7 : 1); break;
            case 6: ROWS(6 < MR ? 6 : 1); break;
            case 5: ROWS(5 < MR ? 5 : 1); break;
            case 4: ROWS(4 < MR ? 4 : 1); break;
            case 3: ROWS(3); break;
            case 2: ROWS(2); break;
            case 1: ROWS(1); break;
        }
    }
#undef ROWS
}

/* Rows divided by their root mean square, times the norm's weights. */
static void normalize(int m, int n, float eps, const float *by, const float *x, float *y, int ld) {
    for (int row = 0; row < m; row++, x += ld, y += ld) {
        vec squares = {0};
        for (int i = 0; i < n; i += VL) squares += load(x + i) * load(x + i);
        const float scale = 1.0f / sqrtf(sum_of(squares) / n + eps);
        for (int i = 0; i < n; i += VL) store(y + i, load(x + i) * scale * load(by + i));
    }
}

static void rotate(float *head, int size, const float *rotation) {
    const int half = size / 2;
    for (int i = 0; i < half; i++) {
        const float a = head[i], b = head[i + half], c = rotation[i], s = rotation[i + half];
        head[i] = a * c - b * s;
        head[i + half] = b * c + a * s;
    }
}

/* Queries of `rows` tokens of a text that follow each other: the first against n tokens, each next
   one against one more. What is loaded of keys and values serves all of them, and each has its sums
   in the same order for any number. `scores` has room for `ld` floats of each; `out` gets size. */
static inline __attribute__((always_inline)) void attend(
    const int rows, const float *query, int ldq, const float *keys, const float *values, int64_t n,
    int size, float *scores, int64_t ld, float *out, int ldo) {
    vec most[MR];
    for (int r = 0; r < rows; r++) most[r] = every(-INFINITY);
    for (int64_t t = 0; t < n + rows - 1; t += VL, keys += size * VL) {
        vec even[MR], odd[MR];
        for (int r = 0; r < rows; r++) even[r] = odd[r] = (vec){0};
        int d = 0;
        for (; d + 1 < size; d += 2) {
            const vec left = load(keys + d * VL), right = load(keys + (d + 1) * VL);
            for (int r = 0; r < rows; r++) {
                even[r] += query[r * ldq + d] * left;
                odd[r] += query[r * ldq + d + 1] * right;
            }
        }
        for (int r = 0; r < rows; r++) {
            if (d < size) even[r] += query[r * ldq + d] * load(keys + d * VL);
            vec score = even[r] + odd[r];
            for (int64_t i = n + r > t ? n + r - t : 0; i < VL; i++)
                score[i] = -INFINITY; /* behind the last token */
            store(scores + r * ld + t, score);
            most[r] = (vec)(((ivec)score & (score > most[r])) | ((ivec)most[r] & ~(score > most[r])));
        }
    }
    float scales[MR];
    for (int r = 0; r < rows; r++) {
        float highest = most[r][0], *own = scores + r * ld;
        for (int i = 1; i < VL; i++) highest = most[r][i] > highest ? most[r][i] : highest;
        vec total = {0};
        for (int64_t t = 0; t < n + r; t += VL) {
            const vec score = load(own + t);
            const vec weight = (vec)((ivec)exponential(score - highest) & (score > -INFINITY));
            store(own + t, weight);
            total += weight;
        }
        scales[r] = 1.0f / sum_of(total);
    }
    const int padded = wide(size);
    for (int d = 0; d < padded; d += VL) {
        vec sums[MR][4];
        for (int r = 0; r < rows; r++)
            for (int i = 0; i < 4; i++) sums[r][i] = (vec){0};
        const float *value = values + d;
        int64_t shared = 0;
        for (; shared + 4 <= n; shared += 4, value += 4 * padded)
            for (int i = 0; i < 4; i++) {
                const vec loaded = load(value + i * padded);
                for (int r = 0; r < rows; r++) sums[r][i] += scores[r * ld + shared + i] * loaded;
            }
        for (int r = 0; r < rows; r++) {
            const float *rest = value, *weight = scores + r * ld;
            int64_t t = shared;
            for (; t + 4 <= n + r; t += 4, rest += 4 * padded)
                for (int i = 0; i < 4; i++) sums[r][i] += weight[t + i] * load(rest + i * padded);
            for (; t < n + r; t++, rest += padded) sums[r][0] += weight[t] * load(rest);
            const vec found = ((sums[r][0] + sums[r][1]) + (sums[r][2] + sums[r][3])) * scales[r];
            memcpy(out + r * ldo + d, &found, sizeof(float) * (size - d < VL ? size - d : VL));
        }
    }
}

/* How many of the first rows are `MR` tokens of one text that follow each other; else 1. */
static int in_a_row(const Row *rows, int64_t m) {
    if (m < MR) return 1;
    for (int r = 1; r < MR; r++)
        if (rows[r].keys != rows->keys || rows[r].n_tokens != rows->n_tokens + r) return 1;
    return MR;
}

int stratos_vector(void) { return VL; }

/* Lay the weights (n, k) of a product out in panels, (in_panels(n), k); what is behind n is zero. */
void stratos_panels(int64_t n, int64_t k, const float *weights, float *panels) {
    for (int64_t first = 0; first < n; first += NR)
        for (int64_t i = 0; i < k; i++)
            for (int64_t r = 0; r < NR; r++)
                panels[first * k + i * NR + r] = first + r < n ? weights[(first + r) * k + i] : 0;
}

/* Floats that a step of m rows of at most `room` tokens works with. */
int64_t stratos_work(const Model *model, int64_t m, int64_t room) {
    const int hidden = in_panels(model->hidden), heads = model->heads, size = model->head_size;
    const int qkv = in_panels((heads + 2 * model->kv_heads) * size);
    return m * (2 * hidden + qkv + wide(heads * size) + in_panels(2 * model->width)) +
           MR * wide(room) + NR;
}

/* Read the token of each of m rows; write the logits (n, vocabulary in panels) behind the last n.

Tokens of one text may be rows of one step, in their order and with the same keys and values: each
is stored before it is looked at. */
void stratos_step(const Model *model, int64_t m, int64_t n, Row *rows, float *work, float *logits) {
    const int H = model->hidden, size = model->head_size, width = model->width;
    const int heads = model->heads, kv_heads = model->kv_heads, group = heads / kv_heads;
    const int ldh = in_panels(H), n_qkv = (heads + 2 * kv_heads) * size, ldq = in_panels(n_qkv);
    const int lda = wide(heads * size), ldg = in_panels(2 * width), padded = wide(size);
    float *x = work, *normed = x + m * ldh, *qkv = normed + m * ldh, *attended = qkv + m * ldq;
    float *gated = attended + m * lda, *scores = gated + m * ldg;
    const float *const *weights = model->weights;
    const float *norms = model->norms;

    memset(x, 0, sizeof(float) * m * ldh);
    for (int row = 0; row < m; row++)
        memcpy(x + row * ldh, model->embedding + rows[row].id * H, sizeof(float) * H);
    for (int layer = 0; layer < model->layers; layer++, weights += 4, norms += 2 * ldh) {
        normalize(m, H, model->eps, norms, x, normed, ldh);
        product(m, H, n_qkv, normed, ldh, weights[0], qkv, ldq, 0);
        for (int row = 0; row < m; row++) {
            float *head = qkv + row * ldq;
            for (int h = 0; h < heads + kv_heads; h++)
                rotate(head + h * size, size, model->rotations + rows[row].n_tokens * size);
            for (int i = 0; i < heads * size; i++) head[i] *= model->scale;
        }
        for (int g = 0; g < kv_heads; g++) { /* of a long text, a near cache holds one head alone */
            const int64_t place = (int64_t)layer * kv_heads + g;
            for (int row = 0, many; row < m; row += many) {
                const Row *one = rows + row;
                const int64_t first = one->n_tokens, ld = wide(one->room);
                float *keys = one->keys + place * one->room * size;
                float *values = one->values + place * one->room * padded;
                many = in_a_row(one, m - row);
                for (int64_t r = 0, at = first; r < many; r++, at++) {
                    const float *key = qkv + (row + r) * ldq + (heads + g) * size;
                    float *to = keys + at / VL * size * VL + at % VL;
                    for (int d = 0; d < size; d++) to[d * VL] = key[d];
                    memcpy(values + at * padded, key + kv_heads * size, sizeof(float) * size);
                }
                for (int h = g * group; h < (g + 1) * group; h++) {
                    const float *query = qkv + row * ldq + h * size;
                    float *to = attended + row * lda + h * size;
#define ATTEND(n) attend(n, query, ldq, keys, values, first + 1, size, scores, ld, to, lda)
                    if (many == MR) ATTEND(MR);
                    else ATTEND(1);
#undef ATTEND
                }
            }
        }
        product(m, heads * size, H, attended, lda, weights[1], x, ldh, 1);
        normalize(m, H, model->eps, norms + ldh, x, normed, ldh);
        product(m, H, 2 * width, normed, ldh, weights[2], gated, ldg, 0);
        for (int row = 0; row < m; row++) { /* gate and up lie in turns, a vector of each */
            float *from = gated + row * ldg, *to = from;
            for (int i = 0; i < wide(width); i += VL, from += NR, to += VL) {
                const vec gate = load(from);
                store(to, gate / (1.0f + exponential(-gate)) * load(from + VL));
            }
        }
        product(m, width, H, gated, ldg, weights[3], x, ldh, 1);
    }
    normalize(n, H, model->eps, norms, x + (m - n) * ldh, normed, ldh);
    product(n, H, model->vocabulary, normed, ldh, weights[0], logits,
            in_panels(model->vocabulary), 0);
    for (int row = 0; row < m; row++) rows[row].n_tokens++;
}

/* Write the likeliest tokens of m rows, `most` of each, or fewer where a row writes one that `ends`
   its text (a byte for each token); return how many. `written` is (most, m). */
int64_t stratos_write(const Model *model, int64_t m, Row *rows, float *work, float *logits,
                      int64_t most, const uint8_t *ends, int64_t *written) {
    int64_t step = 0;
    for (int over = 0; step < most && !over; step++, written += m) {
        const float *of_row = logits;
        stratos_step(model, m, m, rows, work, logits);
        for (int row = 0; row < m; row++, of_row += in_panels(model->vocabulary)) {
            int64_t likeliest = 0;
            for (int i = 1; i < model->vocabulary; i++)
                if (of_row[i] > of_row[likeliest]) likeliest = i;
            rows[row].id = written[row] = likeliest;
            over |= ends[likeliest];
        }
    }
    return step;
}
