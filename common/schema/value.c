/* Equality of JSON text by value. Bounded work: repeated items are found by hashes, not by comparing all pairs. */
#include "common/schema/value.h"
#include "common/base/ensure.h"

#include "common/base/banned.h"

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static int64_t exponent_of(const char *p, const char *end)
{
    const int64_t bound = INT64_C(1) << 50; /* no text is so long that sums with its length could overflow */
    bool negative = p < end && *p == '-';
    int64_t exponent = 0;

    if (p < end && (*p == '-' || *p == '+'))
        p++;
    for (; p < end && is_digit(*p); p++)
        exponent = exponent > bound ? bound : exponent * 10 + (*p - '0');
    return negative ? -exponent : exponent;
}

struct number number_of(struct str text)
{
    const char *p = text.ptr;
    const char *end = text.ptr + text.len;
    struct number n = {0};
    bool fraction = false;
    size_t zeros = 0;

    if (p < end && *p == '-') {
        n.negative = true;
        p++;
    }
    for (; p < end && (is_digit(*p) || *p == '.'); p++) {
        if (*p == '.') {
            fraction = true;
            continue;
        }
        if (*p == '0' && n.first == NULL) {
            n.top -= fraction ? 1 : 0;
            continue;
        }
        n.first = n.first == NULL ? p : n.first;
        n.top += fraction ? 0 : 1;
        zeros++;
        if (*p != '0') {
            n.digits += zeros;
            n.last = p;
            zeros = 0;
        }
    }
    if (n.first == NULL)
        return (struct number){0};
    if (p < end && (*p == 'e' || *p == 'E'))
        n.top += exponent_of(p + 1, end);
    return n;
}

/* The digit at *p and on to the next one, 0 behind the last. */
static int take_digit(const struct number *n, const char **p)
{
    int digit;

    if (*p > n->last)
        return 0;
    if (**p == '.')
        (*p)++;
    digit = **p - '0';
    (*p)++;
    return digit;
}

static int magnitude_cmp(const struct number *a, const struct number *b)
{
    const char *p = a->first;
    const char *q = b->first;

    if (a->top != b->top)
        return a->top < b->top ? -1 : 1;
    while (p <= a->last || q <= b->last) {
        int diff = take_digit(a, &p) - take_digit(b, &q);

        if (diff != 0)
            return diff;
    }
    return 0;
}

int number_cmp(struct str a, struct str b)
{
    struct number x = number_of(a);
    struct number y = number_of(b);
    int sign_x = x.digits == 0 ? 0 : x.negative ? -1 : 1;
    int sign_y = y.digits == 0 ? 0 : y.negative ? -1 : 1;

    if (sign_x != sign_y)
        return sign_x - sign_y;
    return sign_x * (sign_x == 0 ? 0 : magnitude_cmp(&x, &y));
}

bool number_is_integer(struct str text)
{
    struct number n = number_of(text);

    return n.top >= 0 && (uint64_t)n.top >= n.digits;
}

bool number_can_divide(struct str text)
{
    struct number n = number_of(text);

    return n.digits > 0 && n.digits <= 18 && !n.negative;
}

static uint64_t mul_mod(uint64_t a, uint64_t b, uint64_t m)
{
    ENSURE(m > 0);
    return (uint64_t)((unsigned __int128)a * b % m);
}

/* n = A x 10^a and of = B x 10^b with whole A and B that do not end in 0. Where a < b no whole number q makes
 * A = q x B x 10^(b - a), because A does not end in 0; else the remainder of A x 10^(a - b) by B tells. */
bool number_is_multiple(struct str text, struct str of)
{
    struct number n = number_of(text);
    struct number d = number_of(of);
    uint64_t divisor = 0, rest = 0, factor;
    int64_t shift = (n.top - (int64_t)n.digits) - (d.top - (int64_t)d.digits);

    if (n.digits == 0)
        return true;
    if (shift < 0)
        return false;
    for (const char *p = d.first; p <= d.last;)
        divisor = divisor * 10 + (uint64_t)take_digit(&d, &p);
    ENSURE(divisor > 0); /* number_can_divide */
    for (const char *p = n.first; p <= n.last;)
        rest = (mul_mod(rest, 10, divisor) + (uint64_t)take_digit(&n, &p)) % divisor;
    for (factor = 10 % divisor; shift > 0; shift >>= 1) {
        if (shift & 1)
            rest = mul_mod(rest, factor, divisor);
        factor = mul_mod(factor, factor, divisor);
    }
    return rest == 0;
}

static bool string_equal(struct str a, struct str b, struct arena *arena)
{
    struct str x, y;

    if (str_eq(a, b))
        return true;
    if (memchr(a.ptr, '\\', a.len) == NULL && memchr(b.ptr, '\\', b.len) == NULL)
        return false;
    return jt_string(a, arena, &x) && jt_string(b, arena, &y) && str_eq(x, y);
}

static uint64_t mix(uint64_t hash, uint64_t with)
{
    struct {
        uint64_t a, b;
    } pair = {hash, with};

    return str_hash((struct str){(const char *)&pair, sizeof(pair)});
}

static uint64_t number_hash(struct str text)
{
    struct number n = number_of(text);
    uint64_t hash = mix((uint64_t)n.top, n.digits == 0 ? 0 : n.negative ? 1 : 2);

    for (const char *p = n.first; n.digits > 0 && p <= n.last;) {
        uint64_t chunk = 0;

        for (int i = 0; i < 16 && p <= n.last; i++)
            chunk = chunk * 10 + (uint64_t)take_digit(&n, &p);
        hash = mix(hash, chunk);
    }
    return hash;
}

/* Equal values have equal hashes: members of an object are summed, so that their order does not count. The hash is
 * keyed per process, so that nobody can make collisions on purpose. */
static uint64_t value_hash(struct str value, struct arena *arena)
{
    enum jt_type type = jt_type(value);
    struct str text = str_trim(value);
    uint64_t hash = (uint64_t)type;
    struct jt_iter it;

    switch (type) {
    case JT_STRING:
        return jt_string(text, arena, &text) ? mix(hash, str_hash(text)) : hash;
    case JT_NUMBER:
        return mix(hash, number_hash(text));
    case JT_ARRAY:
        jt_iter_init(&it, text);
        while (jt_next(&it))
            hash = mix(hash, value_hash(it.value, arena));
        return hash;
    case JT_OBJECT:
        jt_iter_init(&it, text);
        while (jt_next(&it))
            hash += mix(str_hash(jt_key(&it, arena)), value_hash(it.value, arena));
        return hash;
    case JT_NONE:
    case JT_NULL:
    case JT_FALSE:
    case JT_TRUE:
        return hash;
    }
    return hash;
}

static bool object_equal(struct str a, struct str b, struct arena *arena)
{
    struct jt_iter it;

    if (jt_count(a) != jt_count(b))
        return false;
    /* Looking each member up is quadratic; of large objects the hashes decide (see value_first_repeated). */
    if (a.len > 4096)
        return value_hash(a, arena) == value_hash(b, arena);
    jt_iter_init(&it, a);
    while (jt_next(&it)) {
        struct str other = jt_get_str(b, jt_key(&it, arena));

        if (other.ptr == NULL || !value_equal(it.value, other, arena))
            return false;
    }
    return true;
}

static bool array_equal(struct str a, struct str b, struct arena *arena)
{
    struct jt_iter x, y;

    jt_iter_init(&x, a);
    jt_iter_init(&y, b);
    for (;;) {
        bool more = jt_next(&x);

        if (more != jt_next(&y))
            return false;
        if (!more)
            return true;
        if (!value_equal(x.value, y.value, arena))
            return false;
    }
}

bool value_equal(struct str a, struct str b, struct arena *arena)
{
    enum jt_type type = jt_type(a);

    a = str_trim(a);
    b = str_trim(b);
    if (type != jt_type(b))
        return false;
    switch (type) {
    case JT_STRING:
        return string_equal(a, b, arena);
    case JT_NUMBER:
        return number_cmp(a, b) == 0;
    case JT_ARRAY:
        return array_equal(a, b, arena);
    case JT_OBJECT:
        return object_equal(a, b, arena);
    case JT_NONE:
    case JT_NULL:
    case JT_FALSE:
    case JT_TRUE:
        return true;
    }
    return false;
}

struct item {
    uint64_t hash;
    size_t index;
};

static int item_cmp(const void *a, const void *b)
{
    const struct item *x = a;
    const struct item *y = b;

    if (x->hash != y->hash)
        return x->hash < y->hash ? -1 : 1;
    return x->index < y->index ? -1 : x->index > y->index;
}

/* Hashes are 64 bits under a secret key: two that are equal are taken for equal values. */
size_t value_first_repeated(struct str array, struct arena *arena)
{
    size_t count = jt_count(array);
    size_t found = SIZE_MAX;
    struct jt_iter it;
    struct item *items;

    if (count < 2)
        return SIZE_MAX;
    items = arena_array(arena, count, sizeof(*items));
    jt_iter_init(&it, array);
    while (jt_next(&it))
        items[it.index] = (struct item){value_hash(it.value, arena), it.index};
    qsort(items, count, sizeof(*items), item_cmp);
    for (size_t i = 1; i < count; i++) {
        if (items[i].hash == items[i - 1].hash && items[i].index < found)
            found = items[i].index;
    }
    return found;
}
