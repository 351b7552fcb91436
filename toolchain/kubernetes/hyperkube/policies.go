package main

import (
	"github.com/spf13/cobra"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
	"sigs.k8s.io/kube-network-policies/pkg/networkpolicy"
)

// newNetworkPoliciesCommand runs kube-network-policies: it judges the first packet of each connection that the node
// forwards. Its own nftables rules need the kernel's nft_queue, which not every kernel has; where they fail it says so
// in its log and goes on, and the packets come by an iptables rule of the node (toolchain/kubernetes/machine).
func newNetworkPoliciesCommand() *cobra.Command {
	var kubeconfig, node string
	var queue int
	command := &cobra.Command{
		Use:   "network-policies",
		Short: "Enforces NetworkPolicies on a node",
		RunE: func(command *cobra.Command, _ []string) error {
			config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
			if err != nil {
				return err
			}
			client, err := kubernetes.NewForConfig(config)
			if err != nil {
				return err
			}
			informed := informers.NewSharedInformerFactory(client, 0)
			controller, err := networkpolicy.NewController(client, informed.Networking().V1().NetworkPolicies(),
				informed.Core().V1().Namespaces(), informed.Core().V1().Pods(), nil, nil, nil, nil,
				networkpolicy.Config{NodeName: node, QueueID: queue})
			if err != nil {
				return err
			}
			informed.Start(command.Context().Done())
			return controller.Run(command.Context())
		},
	}
	command.Flags().StringVar(&kubeconfig, "kubeconfig", "", "how to reach the API server")
	command.Flags().StringVar(&node, "node", "", "the name of this node")
	command.Flags().IntVar(&queue, "queue", 100, "the number of the netfilter queue")
	return command
}
