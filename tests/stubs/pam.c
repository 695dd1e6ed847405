/*
 * A PAM library whose service's name says what it does: words with dots between them.
 *
 *   sleep=MS        authenticating takes so long
 *   start=N         starting returns N; 0 starts nothing at all
 *   auth=N acct=N   those steps return N
 *   wide            the conversation is asked for more at once than is allowed
 *   binary          and for what has no answer
 *   delay           a failure is followed by ten seconds unless a function for that is set
 *
 * Otherwise alice has the password "wonder" and may come from 192.0.2.7.
 */

#include <stdlib.h>
#include <string.h>
#include <time.h>

typedef struct { int style; const char *text; } message;
typedef struct { char *text; int unused; } response;
typedef struct {
    int (*converse)(int, const message **, response **, void *);
    void *data;
} conversation;
typedef struct {
    char *service, *user, *host;
    conversation conversation;
    void (*delay)(int, unsigned, void *);
} handle;

enum { SUCCESS, PERM_DENIED = 6, AUTH_ERR = 7, USER_UNKNOWN = 10, BAD_ITEM = 29 };

static void rest(unsigned long milliseconds) {
    struct timespec left = {(time_t)(milliseconds / 1000), (long)(milliseconds % 1000) * 1000000};
    while (nanosleep(&left, &left) != 0) {}
}

static int number(const char *service, const char *key, int otherwise) {
    const char *found = strstr(service, key);
    return found ? atoi(found + strlen(key)) : otherwise;
}

int pam_start_confdir(const char *service, const char *user, const conversation *given,
                      const char *confdir, handle **out) {
    int code = number(service, "start=", -1);
    if (code >= 0) return code;
    if (confdir && strcmp(confdir, "/dev") == 0) return 26;
    handle *made = calloc(1, sizeof *made);
    made->service = strdup(service);
    made->user = strdup(user);
    made->conversation = *given;
    *out = made;
    return SUCCESS;
}

int pam_end(handle *given, int last) {
    (void)last;
    free(given->service);
    free(given->user);
    free(given->host);
    free(given);
    return SUCCESS;
}

int pam_set_item(handle *given, int item, const void *value) {
    if (item == 4) {
        free(given->host);
        given->host = strdup(value);
        return SUCCESS;
    }
    if (item == 10) {
        given->delay = (void (*)(int, unsigned, void *))value;
        return SUCCESS;
    }
    return BAD_ITEM;
}

static int ask(handle *given, int style, int count, char *answer, size_t room) {
    message one = {style, "What? "};
    const message *messages[64];
    for (int i = 0; i < 64; i++) messages[i] = &one;
    response *responses = NULL;
    int code = given->conversation.converse(count, messages, &responses, given->conversation.data);
    if (code != SUCCESS) return code;
    for (int i = 0; i < count; i++) {
        if (responses[i].text && answer) strncpy(answer, responses[i].text, room - 1);
        free(responses[i].text);
    }
    free(responses);
    return SUCCESS;
}

int pam_authenticate(handle *given, int flags) {
    char password[600] = "", user[600] = "";
    rest((unsigned long)number(given->service, "sleep=", 0));
    int code = number(given->service, "auth=", -1);
    if (code >= 0) return code;
    if (flags != (0x8000 | 1)) return BAD_ITEM;
    if (strstr(given->service, "wide")) return ask(given, 4, 33, NULL, 0);
    if (strstr(given->service, "binary")) return ask(given, 7, 1, NULL, 0);
    if ((code = ask(given, 4, 2, NULL, 0)) || (code = ask(given, 2, 1, user, sizeof user)) ||
        (code = ask(given, 1, 2, password, sizeof password)))
        return code;
    if (strcmp(given->user, user) != 0) return BAD_ITEM;
    code = SUCCESS;
    if (strcmp(given->user, "alice") != 0) code = USER_UNKNOWN;
    else if (strcmp(password, "wonder") != 0) code = AUTH_ERR;
    if (code != SUCCESS && strstr(given->service, "delay")) {
        if (given->delay) given->delay(code, 10000000, given->conversation.data);
        else rest(10000);
    }
    return code;
}

int pam_acct_mgmt(handle *given, int flags) {
    int code = number(given->service, "acct=", -1);
    if (code >= 0) return code;
    if (flags != (0x8000 | 1)) return BAD_ITEM;
    return given->host && strcmp(given->host, "192.0.2.7") == 0 ? SUCCESS : PERM_DENIED;
}

const char *pam_strerror(handle *given, int code) {
    (void)given;
    return code == 666 ? NULL : "said by the stub";
}
