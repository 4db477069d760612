/* Evaluates ensembles of binary trees on float64 rows, as scikit-learn does, bit by bit: it adds in the same order, and
   nothing is contracted or reassociated. It needs no C library, keeps no state, and so runs in any thread of any Linux.

   A walk down one tree waits for one load after the other, so LANES walks take their steps in turn: through one tree
   with several rows, or through several trees with one row. A leaf leads to itself, so lanes need not end together. */

#include <stdint.h>

#define LANES 8
#define LEVELS 16 /* steps between two looks whether all lanes have come to a leaf */
#define BLOCK 64 /* rows that go through all trees before the next ones do: they and their sums stay in the cache */

enum { HAS_MISSING = 1, HAS_TOO_LARGE = 2 };          /* what scan finds in a matrix */
enum { MISSING_GOES_RIGHT = 1, IS_CATEGORICAL = 2 };  /* flags of a node */

struct node {
    union {
        double threshold; /* values up to it go left; NaN in a leaf, as no value is greater than NaN */
        uint32_t index;   /* low half: of a leaf, its row in values; of a categorical node, its row in categories */
    };
    uint32_t left; /* the left child, and the one after it is the right one; of a leaf, itself */
    uint16_t feature;
    uint16_t flags;
};

struct model {
    const struct node *nodes;
    const double *values;      /* (n_values, width): what a leaf adds */
    const uint32_t *roots;     /* (n_trees): their first nodes */
    const uint32_t *depths;    /* (n_trees): steps from the root to the deepest leaf */
    const uint32_t *categories; /* (n_sets, 8): bit c is set if the category with code c goes left */
    const double *base;        /* (n_columns): what the sums start from */
    const uint32_t *encoded_features; /* (n_encoded): the features that hold categories */
    const uint32_t *encoded_ends;     /* (n_encoded): where the categories of each one end in encoded_values */
    const double *encoded_values;     /* the categories, ascending for each feature: their places are their codes */
    double divisor;            /* what the sums are divided by */
    double too_large;          /* magnitudes from here on are infinite in float32 */
    int64_t n_trees;
    int64_t n_features;
    int64_t n_columns;  /* sums of a row; tree t adds to those from t * width modulo n_columns on */
    int64_t width;      /* sums that one tree adds to */
    int64_t by_column;  /* whether sums lie column by column, as in Fortran */
    int64_t refused;    /* findings of scan that the estimator refuses */
    int64_t n_sets;     /* of categories; none if no node is categorical */
    int64_t n_encoded;
};

static int64_t scan(const double *x, int64_t n, double too_large) {
    int64_t missing = 0, large = 0;
    for (int64_t i = 0; i < n; i++) {
        missing |= x[i] != x[i];
        large |= __builtin_fabs(x[i]) >= too_large;
    }
    return (missing ? HAS_MISSING : 0) | (large ? HAS_TOO_LARGE : 0);
}

static inline __attribute__((always_inline)) uint32_t step(const struct model *m, uint32_t at, const double *row,
                                                            int simple) {
    const struct node *node = m->nodes + at;
    double x = row[node->feature];
    if (simple) return node->left + (x > node->threshold);
    if (x != x) return node->left + (node->flags & MISSING_GOES_RIGHT);
    if (node->flags & IS_CATEGORICAL) {
        uint32_t code = (uint32_t)x;
        return node->left + !(m->categories[8 * (uint64_t)node->index + (code >> 5)] >> (code & 31) & 1);
    }
    return node->left + (x > node->threshold);
}

static inline __attribute__((always_inline)) void walk(const struct model *m, uint32_t at[LANES],
                                                        const double *rows[LANES], uint32_t depth, int simple) {
    while (depth) {
        uint32_t levels = depth < LEVELS ? depth : LEVELS;
        for (uint32_t level = 0; level < levels; level++)
            for (int lane = 0; lane < LANES; lane++) at[lane] = step(m, at[lane], rows[lane], simple);
        depth -= levels;
        uint32_t inner = 0;
        for (int lane = 0; depth && lane < LANES; lane++) inner |= m->nodes[at[lane]].left ^ at[lane];
        if (!inner) return;
    }
}

static inline __attribute__((always_inline)) void add(const struct model *m, uint32_t leaf, double *sums,
                                                       int64_t stride) {
    const double *values = m->values + (uint64_t)m->nodes[leaf].index * m->width;
    for (int64_t i = 0; i < m->width; i++) sums[i * stride] += values[i];
}

static inline __attribute__((always_inline)) void rows_by_tree(const struct model *m, const double *X, int64_t n_rows,
                                                                double *sums, int64_t row_stride,
                                                                int64_t column_stride, int simple) {
    int64_t column = 0;
    for (int64_t tree = 0; tree < m->n_trees; tree++) {
        for (int64_t first = 0; first < n_rows; first += LANES) {
            uint32_t at[LANES];
            const double *rows[LANES];
            for (int lane = 0; lane < LANES; lane++) {
                at[lane] = m->roots[tree];
                rows[lane] = X + (first + lane) * m->n_features;
            }
            walk(m, at, rows, m->depths[tree], simple);
            for (int lane = 0; lane < LANES; lane++)
                add(m, at[lane], sums + (first + lane) * row_stride + column * column_stride, column_stride);
        }
        column = column + m->width == m->n_columns ? 0 : column + m->width;
    }
}

static inline __attribute__((always_inline)) void trees_by_row(const struct model *m, const double *row, double *sums,
                                                                int64_t column_stride, int simple) {
    int64_t column = 0;
    for (int64_t first = 0; first < m->n_trees; first += LANES) {
        int64_t n_lanes = m->n_trees - first < LANES ? m->n_trees - first : LANES;
        uint32_t at[LANES], depth = 0;
        const double *rows[LANES];
        for (int lane = 0; lane < LANES; lane++) {
            int64_t tree = first + (lane < n_lanes ? lane : 0);
            at[lane] = m->roots[tree];
            rows[lane] = row;
            if (m->depths[tree] > depth) depth = m->depths[tree];
        }
        walk(m, at, rows, depth, simple);
        for (int lane = 0; lane < n_lanes; lane++) {
            add(m, at[lane], sums + column * column_stride, column_stride);
            column = column + m->width == m->n_columns ? 0 : column + m->width;
        }
    }
}

static inline __attribute__((always_inline)) void sum_up(const struct model *m, const double *X, int64_t n_samples,
                                                          double *sums, int64_t row_stride, int64_t column_stride,
                                                          int simple) {
    int64_t in_lanes = n_samples / LANES * LANES;
    for (int64_t first = 0; first < in_lanes; first += BLOCK) {
        int64_t n_rows = in_lanes - first < BLOCK ? in_lanes - first : BLOCK;
        rows_by_tree(m, X + first * m->n_features, n_rows, sums + first * row_stride, row_stride, column_stride, simple);
    }
    for (int64_t row = in_lanes; row < n_samples; row++)
        trees_by_row(m, X + row * m->n_features, sums + row * row_stride, column_stride, simple);
}

/* Fills sums, (n_samples, n_columns), for the rows of X, (n_samples, n_features). Returns 0, or what it found in X that
   the estimator refuses; sums are not filled then. */
__attribute__((visibility("default"))) int64_t evaluate_trees_1(const struct model *m, const double *X, int64_t n_samples,
                                                         double *sums) {
    int64_t found = scan(X, n_samples * m->n_features, m->too_large);
    if (found & m->refused) return found & m->refused;
    int64_t row_stride = m->by_column ? 1 : m->n_columns, column_stride = m->by_column ? n_samples : 1;
    for (int64_t row = 0; row < n_samples; row++)
        for (int64_t column = 0; column < m->n_columns; column++)
            sums[row * row_stride + column * column_stride] = m->base[column];
    if (m->n_sets || found & HAS_MISSING)
        sum_up(m, X, n_samples, sums, row_stride, column_stride, 0);
    else
        sum_up(m, X, n_samples, sums, row_stride, column_stride, 1);
    for (int64_t i = 0; i < n_samples * m->n_columns; i++) sums[i] /= m->divisor;
    return 0;
}

/* Puts the code of its category, or NaN if it is none, in each cell of the encoded features of X, (n_samples,
   n_features). Returns whether one of these cells is infinite. */
__attribute__((visibility("default"))) int64_t encode_categories_1(const struct model *m, double *X,
                                                                    int64_t n_samples) {
    int64_t infinite = 0;
    for (int64_t row = 0; row < n_samples; row++) {
        uint32_t start = 0;
        for (int64_t e = 0; e < m->n_encoded; e++) {
            double *x = X + row * m->n_features + m->encoded_features[e];
            uint32_t end = m->encoded_ends[e], low = start, high = end;
            infinite |= __builtin_fabs(*x) == __builtin_inf();
            while (low < high) {
                uint32_t middle = low + (high - low) / 2;
                if (m->encoded_values[middle] < *x)
                    low = middle + 1;
                else
                    high = middle;
            }
            *x = low < end && m->encoded_values[low] == *x ? (double)(low - start) : __builtin_nan("");
            start = end;
        }
    }
    return infinite;
}
