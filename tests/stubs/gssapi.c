/*
 * A GSSAPI library that does what a token says, for tests of what stands before a real one.
 *
 * A token is words with spaces between them:
 *
 *   user=P service=P flags=N  whose the context is, and what it is able to do (RFC 2744's bits)
 *   mech=other                the mechanism is not Kerberos
 *   sleep=MS                  the call takes so long
 *   major=N minor=N           the call returns these; a context and an answer are made all the same
 *   continue                  as major=1
 *   answer=N                  how long the answer is (else "reply"); 0 is none at all
 *   no-context                no context is made
 *   no-client no-service      the context has no such name
 *   nameless                  names have no text
 *   no-inquiry                nothing is told of the context
 *   enctype=N                 of which type its key is (else 23); it is not told if that is 0
 *   wrap=fail|empty|clear     no token; one of no bytes; one that is not encrypted
 *   unwrap=fail|long          no message; one that is longer than its token
 *   limit=N limit=fail        what gss_wrap_size_limit says
 *   lucid=none|old|key        what is exported is nothing; not RFC 4121's; with a key of 2^31 bytes
 *   report                    the call fails; its minor status is how many objects have not been freed
 *   ok                        nothing
 *
 * Any other word makes a token a defective one. A message is sealed by 16 bytes before it: "ST",
 * whether it is encrypted (it never is), who sends it (1: who accepted the context), its number
 * (8 bytes, from 0) and the sum of all other bytes (4 bytes).
 */

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

typedef uint32_t status;
typedef struct { size_t length; void *value; } buffer;
typedef struct { size_t count; buffer *elements; } buffer_set;
typedef struct { uint32_t length; const void *elements; } oid;
typedef struct { size_t count; const oid *elements; } oid_set;
typedef struct { const char *key, *value; } key_value;
typedef struct { uint32_t count; const key_value *elements; } key_values;
typedef struct { char *text; } name;
typedef struct { int any; } cred;
typedef struct { uint32_t type, length; void *data; } lucid_key;
typedef struct {
    uint32_t version, initiate, endtime;
    uint64_t send_seq, recv_seq;
    uint32_t protocol;
    uint32_t sign_alg, seal_alg;
    lucid_key old_key;
    uint32_t have_acceptor_subkey;
    lucid_key ctx_key, acceptor_subkey;
} lucid;

enum { FAIL, EMPTY, CLEAR, LONG, NONE, OLD, KEY, WELL };

typedef struct {
    char *user, *service;
    uint32_t flags;
    int other_mech, no_client, no_service, nameless, no_inquiry;
    int wrap, unwrap, lucid;
    uint32_t enctype;
    int64_t limit;
    uint64_t sent, next, seen;
} context;

#define COMPLETE 0u
#define BAD_MECH (1u << 16)
#define BAD_NAME (2u << 16)
#define BAD_MIC (6u << 16)
#define NO_CRED (7u << 16)
#define NO_CONTEXT (8u << 16)
#define DEFECTIVE_TOKEN (9u << 16)
#define FAILURE (13u << 16)
#define CONTINUE_NEEDED 1u
#define DUPLICATE_TOKEN 2u
#define OLD_TOKEN 4u
#define UNSEQ_TOKEN 8u
#define GAP_TOKEN 16u
#define REPLAY_FLAG 4u
#define SEQUENCE_FLAG 8u
#define HEADER 16

static atomic_int alive;

static const oid KRB5 = {9, "\x2a\x86\x48\x86\xf7\x12\x01\x02\x02"};
static const oid OTHER = {9, "\x2a\x86\x48\x86\xf7\x12\x01\x02\x03"};

static void *make(size_t size) {
    void *made = calloc(1, size ? size : 1);
    if (!made) abort();
    alive++;
    return made;
}

static void unmake(void *made) {
    if (!made) return;
    alive--;
    free(made);
}

static char *copy(const void *from, size_t length) {
    char *text = make(length + 1);
    memcpy(text, from, length);
    return text;
}

static void fill(buffer *out, size_t length) {
    out->length = length;
    out->value = make(length);
}

static name *name_of(const char *text, size_t length) {
    name *made = make(sizeof *made);
    made->text = copy(text, length);
    return made;
}

static void rest(unsigned long milliseconds) {
    struct timespec left = {(time_t)(milliseconds / 1000), (long)(milliseconds % 1000) * 1000000};
    while (nanosleep(&left, &left) != 0) {}
}

status gss_release_buffer(status *minor, buffer *out) {
    *minor = 0;
    unmake(out->value);
    out->value = NULL;
    out->length = 0;
    return COMPLETE;
}

status gss_import_name(status *minor, const buffer *text, const oid *type, name **out) {
    *minor = 0;
    (void)type;
    if (text->length == 0) return BAD_NAME;
    *out = name_of(text->value, text->length);
    return COMPLETE;
}

status gss_display_name(status *minor, name *given, buffer *text, const oid **type) {
    *minor = 0;
    if (type) *type = &KRB5;
    fill(text, strlen(given->text));
    memcpy(text->value, given->text, text->length);
    return COMPLETE;
}

status gss_release_name(status *minor, name **given) {
    *minor = 0;
    if (*given) unmake((*given)->text);
    unmake(*given);
    *given = NULL;
    return COMPLETE;
}

/* There are keys in every file that can be read, and in the default keytab. */
status gss_acquire_cred_from(status *minor, name *desired, uint32_t time, const oid_set *mechs,
                             int usage, const key_values *store, cred **out, oid_set **actual,
                             uint32_t *left) {
    *minor = 0;
    (void)desired, (void)time, (void)actual, (void)left;
    if (usage != 2 || mechs->count != 1) return FAILURE;
    for (uint32_t i = 0; store && i < store->count; i++)
        if (!strcmp(store->elements[i].key, "keytab") && access(store->elements[i].value, R_OK))
            return NO_CRED;
    *out = make(sizeof **out);
    return COMPLETE;
}

status gss_release_cred(status *minor, cred **given) {
    *minor = 0;
    unmake(*given);
    *given = NULL;
    return COMPLETE;
}

status gss_delete_sec_context(status *minor, context **given, buffer *token) {
    *minor = 0;
    (void)token;
    if (*given) {
        unmake((*given)->user);
        unmake((*given)->service);
    }
    unmake(*given);
    *given = NULL;
    return COMPLETE;
}

static const char *value_of(const char *word, const char *key) {
    size_t length = strlen(key);
    return strncmp(word, key, length) == 0 ? word + length : NULL;
}

static void set_text(char **text, const char *value) {
    unmake(*text);
    *text = copy(value, strlen(value));
}

static int is_one(const char *word, const char *known, int *set) {
    if (strcmp(word, known) != 0) return 0;
    return *set = 1;
}

static int chosen(const char *value, int *set) {
    static const char *const NAMES[] = {"fail", "empty", "clear", "long", "none", "old", "key"};
    for (int i = 0; i < WELL; i++)
        if (strcmp(value, NAMES[i]) == 0) {
            *set = i;
            return 1;
        }
    return 0;
}

status gss_accept_sec_context(status *minor, context **given, cred *ours, const buffer *token,
                              const void *bindings, name **source, const oid **mech,
                              buffer *answer, uint32_t *flags, uint32_t *time, cred **delegated) {
    *minor = 0;
    (void)bindings, (void)source, (void)mech, (void)flags, (void)time;
    if (!ours || delegated) return FAILURE;
    if (!*given) {
        *given = make(sizeof **given);
        **given = (context){.flags = 62, .enctype = 23, .wrap = WELL, .unwrap = WELL, .lucid = WELL, .limit = -1};
        set_text(&(*given)->user, "alice@PROXY.TEST");
        set_text(&(*given)->service, "rcmd/localhost@PROXY.TEST");
    }
    context *ctx = *given;
    size_t length = 5;
    int no_context = 0, count = 0, nothing = 0, goes_on = 0;
    char *words = copy(token->value, token->length), *rest_of_words = words;
    status major = *words ? COMPLETE : DEFECTIVE_TOKEN;
    for (char *word; (word = strtok_r(NULL, " ", &rest_of_words));) {
        const char *v;
        if ((v = value_of(word, "user="))) set_text(&ctx->user, v);
        else if ((v = value_of(word, "service="))) set_text(&ctx->service, v);
        else if ((v = value_of(word, "flags="))) ctx->flags = (uint32_t)strtoul(v, NULL, 0);
        else if ((v = value_of(word, "enctype="))) ctx->enctype = (uint32_t)strtoul(v, NULL, 0);
        else if ((v = value_of(word, "sleep="))) rest(strtoul(v, NULL, 0));
        else if ((v = value_of(word, "major="))) major = (status)strtoul(v, NULL, 0);
        else if ((v = value_of(word, "minor="))) *minor = (status)strtol(v, NULL, 0);
        else if ((v = value_of(word, "answer="))) length = strtoul(v, NULL, 0);
        else if ((v = value_of(word, "limit=")) && strcmp(v, "fail") == 0) ctx->limit = -2;
        else if (v) ctx->limit = strtol(v, NULL, 0);
        else if ((v = value_of(word, "wrap=")) && chosen(v, &ctx->wrap)) continue;
        else if ((v = value_of(word, "unwrap=")) && chosen(v, &ctx->unwrap)) continue;
        else if ((v = value_of(word, "lucid=")) && chosen(v, &ctx->lucid)) continue;
        else if (is_one(word, "mech=other", &ctx->other_mech)) continue;
        else if (is_one(word, "no-client", &ctx->no_client)) continue;
        else if (is_one(word, "no-service", &ctx->no_service)) continue;
        else if (is_one(word, "nameless", &ctx->nameless)) continue;
        else if (is_one(word, "no-inquiry", &ctx->no_inquiry)) continue;
        else if (is_one(word, "no-context", &no_context)) continue;
        else if (is_one(word, "continue", &goes_on)) continue;
        else if (is_one(word, "report", &count)) continue;
        else if (is_one(word, "ok", &nothing)) continue;
        else major = DEFECTIVE_TOKEN;
    }
    unmake(words);
    if (goes_on) major |= CONTINUE_NEEDED;
    if (length) {
        fill(answer, length);
        memcpy(answer->value, "reply", length < 5 ? length : 5);
    }
    status none;
    if (count || no_context) gss_delete_sec_context(&none, given, NULL);
    if (count) {
        gss_release_buffer(&none, answer);
        *minor = (status)alive;
        return FAILURE;
    }
    return major;
}

status gss_inquire_context(status *minor, context *ctx, name **source, name **target,
                           uint32_t *time, const oid **mech, uint32_t *flags, int *local,
                           int *open) {
    *minor = 0;
    (void)time, (void)local, (void)open;
    if (ctx->no_inquiry) return NO_CONTEXT;
    if (!ctx->no_client) *source = name_of(ctx->user, ctx->nameless ? 0 : strlen(ctx->user));
    if (!ctx->no_service) *target = name_of(ctx->service, strlen(ctx->service));
    *mech = ctx->other_mech ? &OTHER : &KRB5;
    *flags = ctx->flags;
    return COMPLETE;
}

status gss_release_buffer_set(status *minor, buffer_set **given) {
    *minor = 0;
    for (size_t i = 0; *given && i < (*given)->count; i++) unmake((*given)->elements[i].value);
    if (*given) unmake((*given)->elements);
    unmake(*given);
    *given = NULL;
    return COMPLETE;
}

/* Of all that may be asked it knows the key and its type. */
status gss_inquire_sec_context_by_oid(status *minor, context *ctx, const oid *wanted,
                                      buffer_set **out) {
    *minor = 0;
    if (wanted->length != 11 || memcmp(wanted->elements, "\x2a\x86\x48\x86\xf7\x12\x01\x02\x02\x05\x05", 11))
        return FAILURE;
    buffer_set *made = *out = make(sizeof *made);
    made->count = ctx->enctype ? 2 : 1;
    made->elements = make(2 * sizeof *made->elements);
    fill(&made->elements[0], 32);
    if (ctx->enctype) {
        fill(&made->elements[1], 12);
        unsigned char *type = made->elements[1].value;
        memcpy(type, "\x2a\x86\x48\x86\xf7\x12\x01\x02\x02\x04", 10);
        type[10] = (unsigned char)(0x80 | (ctx->enctype >> 7 & 0x7f));
        type[11] = (unsigned char)(ctx->enctype & 0x7f);
    }
    return COMPLETE;
}

static uint32_t sum_of(const unsigned char *token, size_t length) {
    uint32_t sum = 0;
    for (size_t i = 0; i < length; i++)
        if (i < 12 || i >= HEADER) sum = sum * 31 + token[i];
    return sum;
}

static void put(unsigned char *to, uint64_t number, int octets) {
    for (int i = octets - 1; i >= 0; i--, number >>= 8) to[i] = (unsigned char)number;
}

static uint64_t get(const unsigned char *from, int octets) {
    uint64_t number = 0;
    for (int i = 0; i < octets; i++) number = number << 8 | from[i];
    return number;
}

status gss_wrap(status *minor, context *ctx, int conf, uint32_t qop, const buffer *message,
                int *is_encrypted, buffer *token) {
    *minor = 0;
    if (qop != 0 || ctx->wrap == FAIL) return FAILURE;
    *is_encrypted = conf && ctx->wrap != CLEAR;
    if (ctx->wrap == EMPTY) return COMPLETE;
    fill(token, HEADER + message->length);
    unsigned char *bytes = token->value;
    memcpy(bytes, "ST", 2);
    bytes[2] = (unsigned char)*is_encrypted;
    bytes[3] = 1;
    put(bytes + 4, ctx->sent++, 8);
    if (message->length) memcpy(bytes + HEADER, message->value, message->length);
    put(bytes + 12, sum_of(bytes, token->length), 4);
    return COMPLETE;
}

/* What the number of a message says; the last 64 are remembered. */
static status order_of(context *ctx, uint64_t number) {
    status order = COMPLETE;
    uint64_t age = ctx->next - number - 1;
    if (number >= ctx->next) {
        uint64_t ahead = number - ctx->next + 1;
        order = ahead > 1 ? GAP_TOKEN : COMPLETE;
        ctx->seen = (ahead < 64 ? ctx->seen << ahead : 0) | 1;
        ctx->next = number + 1;
    } else if (age >= 64) {
        order = OLD_TOKEN;
    } else {
        order = ctx->seen >> age & 1 ? DUPLICATE_TOKEN : UNSEQ_TOKEN;
        ctx->seen |= (uint64_t)1 << age;
    }
    if (ctx->flags & SEQUENCE_FLAG) return order;
    if (ctx->flags & REPLAY_FLAG) return order & (DUPLICATE_TOKEN | OLD_TOKEN);
    return COMPLETE;
}

status gss_unwrap(status *minor, context *ctx, const buffer *token, buffer *message,
                  int *is_encrypted, uint32_t *qop) {
    *minor = 0;
    (void)qop;
    const unsigned char *bytes = token->value;
    if (ctx->unwrap == FAIL) return FAILURE;
    if (token->length < HEADER || memcmp(bytes, "ST", 2) != 0) return DEFECTIVE_TOKEN;
    if (bytes[3] != 0 || get(bytes + 12, 4) != sum_of(bytes, token->length)) return BAD_MIC;
    *is_encrypted = bytes[2];
    if (ctx->unwrap == LONG) {
        fill(message, token->length + 1);
    } else if (token->length > HEADER) {
        fill(message, token->length - HEADER);
        memcpy(message->value, bytes + HEADER, message->length);
    }
    return order_of(ctx, get(bytes + 4, 8));
}

status gss_wrap_size_limit(status *minor, context *ctx, int conf, uint32_t qop, uint32_t wanted,
                           uint32_t *limit) {
    *minor = 0;
    (void)conf, (void)qop;
    if (ctx->limit == -2) return FAILURE;
    *limit = wanted > HEADER ? wanted - HEADER : 0;
    if (ctx->limit >= 0) *limit = (uint32_t)ctx->limit;
    return COMPLETE;
}

status gss_display_status(status *minor, uint32_t code, int kind, const oid *mech, uint32_t *more,
                          buffer *text) {
    *minor = 0;
    (void)mech;
    char said[600];
    size_t length = 0;
    for (uint32_t left = code; left || !length; left /= 10) said[length++] = (char)('0' + left % 10);
    for (size_t i = 0; i < length / 2; i++) {
        char digit = said[i];
        said[i] = said[length - 1 - i];
        said[length - 1 - i] = digit;
    }
    /* A code of 666 has more to say than anybody wants to hear, with a line break and no end. */
    if (code == 666) {
        memset(said + length, 'x', sizeof said - length);
        said[length] = '\n';
        length = sizeof said;
        *more = 1;
    }
    static const char *const KINDS[] = {"kind 0 ", "major ", "minor "};
    const char *before = KINDS[kind];
    fill(text, strlen(before) + length);
    memcpy(text->value, before, strlen(before));
    memcpy((char *)text->value + strlen(before), said, length);
    return COMPLETE;
}

static lucid_key key_of(uint32_t type, int octet) {
    lucid_key key = {type, 32, make(32)};
    memset(key.data, octet, 32);
    return key;
}

status gss_krb5_export_lucid_sec_context(status *minor, context **given, uint32_t version,
                                         lucid **out) {
    *minor = 0;
    context *ctx = *given;
    if (version != 1 || ctx->lucid == FAIL) return FAILURE;
    if (ctx->lucid != NONE) {
        lucid *made = make(sizeof *made);
        made->version = 1;
        made->send_seq = ctx->sent;
        made->recv_seq = ctx->next;
        made->protocol = ctx->lucid != OLD;
        made->have_acceptor_subkey = 1;
        made->ctx_key = key_of(18, 0x11);
        made->acceptor_subkey = key_of(18, 0x22);
        if (ctx->lucid == KEY) made->ctx_key.length = 1u << 31;
        *out = made;
    }
    status none;
    return gss_delete_sec_context(&none, given, NULL);
}

status gss_krb5_free_lucid_sec_context(status *minor, lucid *given) {
    *minor = 0;
    unmake(given->ctx_key.data);
    unmake(given->acceptor_subkey.data);
    unmake(given);
    return COMPLETE;
}
