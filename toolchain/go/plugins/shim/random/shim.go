// Package shim exports the random provider's constructor, which lives in an internal package.
// Go lets a package import it by path, hence this module's name.
package shim

import (
	framework "github.com/hashicorp/terraform-plugin-framework/provider"
	"github.com/terraform-providers/terraform-provider-random/internal/provider"
)

// New returns the provider.
func New() framework.Provider { return provider.New() }
