// Command plugins is the Pulumi resource plugins docker, random and tls in one
// binary: the name that it is started under says which one it is.
//
// It exists for machines that reach the Go module proxy but not Pulumi's own
// downloads. It bridges the upstream Terraform providers just as the official
// plugins do, for the resources that this project uses and their neighbours.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	docker "github.com/terraform-providers/terraform-provider-docker/shim"
	random "github.com/terraform-providers/terraform-provider-random/shim"

	tls "github.com/hashicorp/terraform-provider-tls/shim"
	pftfbridge "github.com/pulumi/pulumi-terraform-bridge/v3/pkg/pf/tfbridge"
	pftfgen "github.com/pulumi/pulumi-terraform-bridge/v3/pkg/pf/tfgen"
	"github.com/pulumi/pulumi-terraform-bridge/v3/pkg/tfbridge"
	"github.com/pulumi/pulumi-terraform-bridge/v3/pkg/tfbridge/tokens"
	"github.com/pulumi/pulumi-terraform-bridge/v3/pkg/tfgen"
	sdkv2 "github.com/pulumi/pulumi-terraform-bridge/v3/pkg/tfshim/sdk-v2"
	"github.com/pulumi/pulumi/sdk/v3/go/common/diag"
	"github.com/pulumi/pulumi/sdk/v3/go/common/diag/colors"
	"github.com/pulumi/pulumi/sdk/v3/go/common/resource/plugin"
	"github.com/pulumi/pulumi/sdk/v3/go/pulumi/provider"
	pulumirpc "github.com/pulumi/pulumi/sdk/v3/proto/go"
)

// Set by the linker (-X main.dockerVersion=…) to the npm packages' versions.
var dockerVersion, randomVersion, tlsVersion string

func main() {
	switch name := strings.TrimPrefix(filepath.Base(os.Args[0]), "pulumi-resource-"); name {
	case "docker":
		serveDocker()
	case "random":
		serveFramework(randomInfo())
	case "tls":
		serveFramework(tlsInfo())
	default:
		fmt.Fprintf(os.Stderr, "%s: start me as pulumi-resource-docker, -random or -tls\n", name)
		os.Exit(2)
	}
}

func serveDocker() {
	info := dockerInfo()
	exitOn(provider.Main(info.Name, func(host *provider.HostClient) (pulumirpc.ResourceProviderServer, error) {
		bridge := tfbridge.NewProvider(context.Background(), host, info.Name, info.Version, info.P, info, nil)
		return schemaOnDemand{bridge, info}, nil
	}))
}

// schemaOnDemand makes the schema when somebody asks for it. No `up` does, and it takes half a second.
type schemaOnDemand struct {
	pulumirpc.ResourceProviderServer
	info tfbridge.ProviderInfo
}

func (s schemaOnDemand) GetSchema(context.Context, *pulumirpc.GetSchemaRequest) (*pulumirpc.GetSchemaResponse, error) {
	schema, err := tfgen.GenerateSchema(s.info, quiet())
	if err != nil {
		return nil, err
	}
	bytes, err := json.Marshal(schema)
	return &pulumirpc.GetSchemaResponse{Schema: string(bytes)}, err
}

func serveFramework(info tfbridge.ProviderInfo) {
	ctx := context.Background()
	onDemand := func(ctx context.Context, _ plugin.GetSchemaRequest) ([]byte, error) {
		options := pftfgen.GenerateSchemaOptions{ProviderInfo: info, DiagnosticsSink: quiet()}
		schema, err := pftfgen.GenerateSchema(ctx, options)
		if err != nil {
			return nil, err
		}
		return schema.ProviderMetadata.PackageSchema, nil
	}
	pftfbridge.Main(ctx, info.Name, info, pftfbridge.ProviderMetadata{XGetSchema: onDemand})
}

// quiet keeps standard output for the port: nothing else may reach it.
func quiet() diag.Sink {
	return diag.DefaultSink(io.Discard, os.Stderr, diag.FormatOptions{Color: colors.Never})
}

func dockerInfo() tfbridge.ProviderInfo {
	info := tfbridge.ProviderInfo{
		P:            sdkv2.NewProvider(docker.New(dockerVersion)),
		Name:         "docker",
		Version:      dockerVersion,
		MetadataInfo: tfbridge.NewProviderMetadata([]byte("{}")),
		Config: map[string]*tfbridge.SchemaInfo{
			"host": {Default: &tfbridge.DefaultInfo{
				EnvVars: []string{"DOCKER_HOST"},
				Value:   "unix:///var/run/docker.sock",
			}},
			"registry_auth": {Name: "registryAuth", MaxItemsOne: tfbridge.False()},
		},
		Resources: map[string]*tfbridge.ResourceInfo{
			"docker_image": {
				Tok:    "docker:index/remoteImage:RemoteImage",
				Fields: map[string]*tfbridge.SchemaInfo{"name": {Name: "name"}},
			},
			"docker_config": {Tok: "docker:index/serviceConfig:ServiceConfig"},
			"docker_container": {
				Tok:                 "docker:index/container:Container",
				DeleteBeforeReplace: true,
				Fields: map[string]*tfbridge.SchemaInfo{
					"command":           {Name: "command"},
					"networks_advanced": {Name: "networksAdvanced"},
				},
			},
		},
	}
	info.MustComputeTokens(tokens.SingleModule("docker_", "index", tokens.MakeStandard("docker")))
	return info
}

func randomInfo() tfbridge.ProviderInfo {
	info := tfbridge.ProviderInfo{
		P:            pftfbridge.ShimProvider(random.New()),
		Name:         "random",
		Version:      randomVersion,
		MetadataInfo: tfbridge.NewProviderMetadata([]byte("{}")),
	}
	standard := tokens.MakeStandard("random")
	prefixed := func(module, name string) (string, error) { return standard(module, "Random"+name) }
	info.MustComputeTokens(tokens.SingleModule("random_", "index", prefixed))
	return info
}

func tlsInfo() tfbridge.ProviderInfo {
	info := tfbridge.ProviderInfo{
		P:            pftfbridge.ShimProvider(tls.New()),
		Name:         "tls",
		Version:      tlsVersion,
		MetadataInfo: tfbridge.NewProviderMetadata([]byte("{}")),
	}
	info.MustComputeTokens(tokens.SingleModule("tls_", "index", tokens.MakeStandard("tls")))
	return info
}

func exitOn(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
