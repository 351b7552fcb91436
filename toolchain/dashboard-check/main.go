// Reads dashboards as Grafana's own types for them, made from Grafana's schema: an unknown or missing field, a value of
// another type or outside of what is allowed is an error, in panels, their options and queries too.
//
//	dashboard-check FILE…
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"

	"github.com/grafana/grafana-foundation-sdk/go/cog"
	"github.com/grafana/grafana-foundation-sdk/go/cog/plugins"
	"github.com/grafana/grafana-foundation-sdk/go/dashboard"
)

func main() {
	plugins.RegisterDefaultPlugins()
	failed := false
	for _, name := range os.Args[1:] {
		if err := check(name); err != nil {
			fmt.Fprintf(os.Stderr, "%s: %v\n", name, err)
			failed = true
		}
	}
	if failed {
		os.Exit(1)
	}
}

func check(name string) error {
	text, err := os.ReadFile(name)
	if err != nil {
		return err
	}
	// It gives a list of errors, also where that is empty; panels that are well are left out of what it reads.
	err = new(dashboard.Dashboard).UnmarshalJSONStrict(text)
	var list cog.BuildErrors
	if err != nil && (!errors.As(err, &list) || len(list) > 0) {
		return err
	}
	var one dashboard.Dashboard
	if err := json.Unmarshal(text, &one); err != nil {
		return err
	}
	return one.Validate()
}
