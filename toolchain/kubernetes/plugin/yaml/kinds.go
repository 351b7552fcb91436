// Stands in for the file of this name in Pulumi's Go SDK for Kubernetes (go/kubernetes/yaml/v2), which imports every kind
// of every version for the sake of its Go type: the plugin would take twice as long to build, and 4 GB of memory.
package v2

import (
	"strings"

	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"
)

type resource struct{ pulumi.CustomResourceState }

// IsListKind says whether a kind is a list of others.
func IsListKind(_, kind string) bool { return strings.HasSuffix(kind, "List") }

// RegisterResource registers a resource under the type that its kind has in Pulumi.
func RegisterResource(ctx *pulumi.Context, apiVersion, kind, name string, props pulumi.Input,
	opts ...pulumi.ResourceOption) (pulumi.CustomResource, error) {
	if !strings.Contains(apiVersion, "/") {
		apiVersion = "core/" + apiVersion
	}
	made := &resource{}
	if err := ctx.RegisterResource("kubernetes:"+apiVersion+":"+kind, name, props, made, opts...); err != nil {
		return nil, err
	}
	return made, nil
}
