"""What test/e2e/support/drivers.ts asks of a driver, by psycopg2 or psycopg (3)."""

import importlib
import json
import sys
import threading
import time

name, way, host, port, user, database, ca, negotiation, query = sys.argv[1:]
driver = importlib.import_module(name)


def connect():
    # psycopg2's libpq may not know it.
    direct = {} if negotiation == "postgres" else {"sslnegotiation": negotiation}
    return driver.connect(
        host=host,
        hostaddr="127.0.0.1",
        port=port,
        user=user,
        dbname=database,
        sslmode="verify-full",
        sslrootcert=ca,
        **direct,
    )


def ask(connection, number):
    cursor = connection.cursor()
    # psycopg2 has no prepared statements.
    prepare = {} if name == "psycopg2" else {"prepare": True}
    cursor.execute("SELECT pg_backend_pid(), %s::int", (number,), **prepare)
    return cursor.fetchone()[0]


def cancel():
    global started
    sys.stdin.readline()
    started = time.monotonic()
    getattr(main, way)()


main, other = connect(), connect()
pids = []
for _ in range(2):
    pids += [ask(main, number) for number in range(3)]
    main.commit()
    ask(other, 0)
other.close()

canceller = threading.Thread(target=cancel)
canceller.start()
message = ""
try:
    main.cursor().execute(query)
except driver.Error as error:
    message = str(error).strip()
seconds = time.monotonic() - started
canceller.join()
main.rollback()
print(json.dumps({"pids": pids, "message": message, "seconds": seconds, "goesOn": ask(main, 0) > 0}))
