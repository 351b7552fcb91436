// Package shim exports the Docker provider's constructor, which lives in an internal package.
// Go lets a package import it by path, hence this module's name.
package shim

import (
	"github.com/hashicorp/terraform-plugin-sdk/v2/helper/schema"
	"github.com/terraform-providers/terraform-provider-docker/internal/provider"
)

// New returns the provider's schema and operations.
func New(version string) *schema.Provider { return provider.New(version)() }
