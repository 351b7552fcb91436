// What test/e2e/support/drivers.ts asks of a driver, by pgx.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"time"

	"github.com/jackc/pgx/v5"
)

func main() {
	args := os.Args[1:]
	way, query := args[0], args[7]
	first, other := connect(args[1:]), connect(args[1:])
	pids := []int{}
	for round := 0; round < 2; round++ {
		transaction, err := first.Begin(background)
		must(err)
		for number := 0; number < 3; number++ {
			pids = append(pids, ask(transaction, number))
		}
		must(transaction.Commit(background))
		if round == 0 {
			transaction, err = other.Begin(background)
			must(err)
			ask(transaction, 0)
		}
	}
	must(other.Close(background))

	ctx, end := context.WithCancel(background)
	started := make(chan time.Time, 1)
	go func() {
		_, _ = bufio.NewReader(os.Stdin).ReadString('\n')
		started <- time.Now()
		if way == "context" {
			end()
		} else {
			must(first.PgConn().CancelRequest(background))
		}
	}()
	_, failure := first.Exec(ctx, query)
	seconds := time.Since(<-started).Seconds()
	if way == "context" {
		// The request is sent behind the caller's back, and not at all by a program that ends before.
		<-first.PgConn().CleanupDone()
	}
	must(json.NewEncoder(os.Stdout).Encode(map[string]any{
		"pids": pids, "message": fmt.Sprint(failure), "seconds": seconds,
		"goesOn": !first.IsClosed() && ask(first, 0) > 0,
	}))
}

var background = context.Background()

// connect takes HOST PORT USER DATABASE CA NEGOTIATION; the password is in PGPASSWORD.
func connect(args []string) *pgx.Conn {
	config, err := pgx.ParseConfig(fmt.Sprintf(
		"host=%s port=%s user=%s dbname=%s sslmode=verify-full sslrootcert=%s sslnegotiation=%s",
		args[0], args[1], args[2], args[3], args[4], args[5]))
	must(err)
	config.LookupFunc = func(context.Context, string) ([]string, error) { return []string{"127.0.0.1"}, nil }
	connection, err := pgx.ConnectConfig(background, config)
	must(err)
	return connection
}

// ask runs a statement that pgx prepares at its first use, and knows by its name from then on.
func ask(connection interface {
	QueryRow(context.Context, string, ...any) pgx.Row
}, number int) (pid int) {
	must(connection.QueryRow(background, "SELECT pg_backend_pid(), $1::int", number).Scan(&pid, &number))
	return pid
}

func must(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
