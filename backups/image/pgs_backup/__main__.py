"""pgs-backup VERB --tenant ID …"""

import os
import sys

from .layout import Failure

# Verb: its options. `!` is one without a value.
VERBS = {
    "run": ["schedule", "retention"],
    "status": [],
    "list": [],
    "backup": [],
    "archive": ["mark!"],
    "retire": ["retention"],
    "adopt": ["system-id", "volume-id"],
    "adopt-timeline": ["timeline"],
    "delete-expired": [],
    "barman": ["name"],
}


def parse(arguments):
    """@returns the verb, its options, and what follows `--`"""
    if not arguments or arguments[0] not in VERBS:
        raise Failure(f"usage: pgs-backup {{{'|'.join(VERBS)}}} --tenant ID …")
    verb, rest = arguments[0], list(arguments[1:])
    options = {}
    while rest:
        word = rest.pop(0)
        if word == "--":
            break
        name = word[2:] if word.startswith("--") else None
        if name in ("tenant", *VERBS[verb]) and rest:
            options[name] = rest.pop(0)
        elif f"{name}!" in VERBS[verb]:
            options[name] = True
        else:
            raise Failure(f"pgs-backup {verb}: {word} is unknown, or has no value")
    missing = [name for name in ("tenant", *VERBS[verb]) if not name.endswith("!") and name not in options]
    if missing:
        raise Failure(f"pgs-backup {verb}: --{missing[0]} is missing")
    return verb, options, rest


def days(text):
    if not text.isdecimal() or not 1 <= int(text) <= 36500:
        raise Failure("--retention is a number of days")
    return int(text)


def answer(verb, options, rest):
    from . import verbs

    context = verbs.Context(options["tenant"])
    if verb == "retire":
        return verbs.retire(context, days(options["retention"]))
    if verb == "adopt":
        return verbs.adopt(context, options["system-id"], options["volume-id"])
    if verb == "adopt-timeline":
        return verbs.adopt_timeline(context, options["timeline"])
    if verb == "archive":
        return verbs.archive(context, mark="mark" in options)
    if verb == "barman":
        return verbs.barman(context, options["name"], rest)
    name = {"list": "list_sets"}.get(verb, verb.replace("-", "_"))
    return getattr(verbs, name)(context)


def main():
    os.umask(0o077)
    # A file that a stream has written is not to be found by a relative name.
    os.chdir("/")
    try:
        verb, options, rest = parse(sys.argv[1:])
        if verb == "run":
            from .supervisor import Supervisor

            Supervisor(options["tenant"], options["schedule"], days(options["retention"])).run()
            return
        document, code = answer(verb, options, rest), 0
    except Failure as failure:
        document, code = {"error": str(failure)}, 1
    except OSError as error:
        document, code = {"error": f"{error.strerror}: {error.filename}"}, 1
    import json

    print(json.dumps(document))
    sys.stdout.flush()
    os._exit(code)


if __name__ == "__main__":
    main()
