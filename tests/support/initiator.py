"""The client's end of GSSAPI contexts, for a test that has the sockets itself.

Reads commands and answers each: a line of words, the last of which says how many bytes follow it.
The first of an answer is `ok`, or `error` before the kind of the error and what it says. Ends with
its input.

    begin CONTEXT SERVICE MECHANISM FLAG,FLAG...   a context; MECHANISM is krb5 or spnego
    step CONTEXT (token)                           -> complete|continue (token)
    flags CONTEXT                                  -> FLAG,FLAG... that were granted
    wrap CONTEXT clear|confidential (message)      -> (token)
    unwrap CONTEXT (token)                         -> clear|confidential (message)
    limit CONTEXT clear|confidential SIZE          -> the longest message of such a token
    end CONTEXT
"""

import sys

try:
    import gssapi
    from gssapi import raw
except ImportError:
    sys.exit("python3-gssapi is not installed; tests/run installs what the tests need")

MECHANISMS = {
    "krb5": gssapi.MechType.kerberos,
    "spnego": gssapi.OID.from_int_seq("1.3.6.1.5.5.2"),
}

contexts = {}
# Whoever begins many contexts looks for the tickets once.
credentials = gssapi.Credentials(usage="initiate")


def main():
    commands, answers = sys.stdin.buffer, sys.stdout.buffer
    for line in commands:
        command, *arguments, length = line.decode().split()
        octets = commands.read(int(length))
        try:
            words, octets = COMMANDS[command](octets, *arguments)
            words = ["ok", *words]
        except gssapi.exceptions.GSSError as error:
            words, octets = ["error", type(error).__name__, *str(error).split()], b""
        answers.write(" ".join([*words, str(len(octets))]).encode() + b"\n" + octets)
        answers.flush()


def begin(_, context, service, mechanism, flags):
    names = [name for name in flags.split(",") if name != "-"]
    contexts[context] = gssapi.SecurityContext(
        name=gssapi.Name(service, gssapi.NameType.hostbased_service),
        creds=credentials if mechanism == "krb5" else None,
        mech=MECHANISMS[mechanism],
        flags=[getattr(gssapi.RequirementFlag, name) for name in names],
        usage="initiate",
    )
    return [], b""


def step(token, context):
    answer = contexts[context].step(token or None)
    return ["complete" if contexts[context].complete else "continue"], answer or b""


def flags(_, context):
    granted = contexts[context].actual_flags
    return [",".join(flag.name for flag in gssapi.RequirementFlag if flag in granted) or "-"], b""


def wrap(message, context, protection):
    return [], raw.wrap(contexts[context], message, protection == "confidential").message


def unwrap(token, context):
    opened = raw.unwrap(contexts[context], token)
    return ["confidential" if opened.encrypted else "clear"], opened.message


def limit(_, context, protection, size):
    longest = raw.wrap_size_limit(contexts[context], int(size), protection == "confidential")
    return [str(longest)], b""


def end(_, context):
    del contexts[context]
    return [], b""


COMMANDS = {
    "begin": begin,
    "step": step,
    "flags": flags,
    "wrap": wrap,
    "unwrap": unwrap,
    "limit": limit,
    "end": end,
}

main()
