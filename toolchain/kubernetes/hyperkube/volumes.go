package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"
	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/klog/v2"
	"sigs.k8s.io/sig-storage-lib-external-provisioner/v13/controller"
)

// The provisioner that the storage class names.
const provisionerName = "pgs.toolchain/folders"

// folders provisions local volumes: a folder each, below that of the node. All nodes are on one machine, so one process
// serves them all. A folder has no limit of its own: the size is on paper.
type folders struct{ root string }

func (f *folders) Provision(_ context.Context, options controller.ProvisionOptions) (*v1.PersistentVolume, controller.ProvisioningState, error) {
	if options.SelectedNodeName == "" {
		return nil, controller.ProvisioningFinished, fmt.Errorf("the storage class must wait for the first consumer")
	}
	path := filepath.Join(f.root, options.SelectedNodeName, options.PVName)
	if err := os.MkdirAll(path, 0o755); err != nil {
		return nil, controller.ProvisioningFinished, err
	}
	volume := &v1.PersistentVolume{
		ObjectMeta: metav1.ObjectMeta{Name: options.PVName},
		Spec: v1.PersistentVolumeSpec{
			PersistentVolumeReclaimPolicy: *options.StorageClass.ReclaimPolicy,
			AccessModes:                   options.PVC.Spec.AccessModes,
			Capacity:                      v1.ResourceList{v1.ResourceStorage: options.PVC.Spec.Resources.Requests[v1.ResourceStorage]},
			PersistentVolumeSource:        v1.PersistentVolumeSource{Local: &v1.LocalVolumeSource{Path: path}},
			NodeAffinity: &v1.VolumeNodeAffinity{Required: &v1.NodeSelector{NodeSelectorTerms: []v1.NodeSelectorTerm{{
				MatchExpressions: []v1.NodeSelectorRequirement{{
					Key: v1.LabelHostname, Operator: v1.NodeSelectorOpIn, Values: []string{options.SelectedNodeName},
				}},
			}}}},
		},
	}
	return volume, controller.ProvisioningFinished, nil
}

func (f *folders) Delete(_ context.Context, volume *v1.PersistentVolume) error {
	path := filepath.Clean(volume.Spec.Local.Path)
	if !strings.HasPrefix(path, f.root+"/") {
		return fmt.Errorf("%s is not below %s", path, f.root)
	}
	return os.RemoveAll(path)
}

// grow gives the claims of our volumes the size that they ask for, as a driver's resizer does.
func grow(ctx context.Context, client kubernetes.Interface) error {
	claims, err := client.CoreV1().PersistentVolumeClaims("").List(ctx, metav1.ListOptions{ResourceVersion: "0"})
	if err != nil {
		return err
	}
	for _, claim := range claims.Items {
		wanted := claim.Spec.Resources.Requests[v1.ResourceStorage]
		if claim.Status.Phase != v1.ClaimBound || wanted.Cmp(claim.Status.Capacity[v1.ResourceStorage]) <= 0 {
			continue
		}
		volume, err := client.CoreV1().PersistentVolumes().Get(ctx, claim.Spec.VolumeName, metav1.GetOptions{})
		if err != nil {
			return err
		}
		if volume.Annotations["pv.kubernetes.io/provisioned-by"] != provisionerName {
			continue
		}
		volume.Spec.Capacity[v1.ResourceStorage] = wanted
		if _, err := client.CoreV1().PersistentVolumes().Update(ctx, volume, metav1.UpdateOptions{}); err != nil {
			return err
		}
		claim.Status.Capacity[v1.ResourceStorage] = wanted
		claim.Status.Conditions = nil
		if _, err := client.CoreV1().PersistentVolumeClaims(claim.Namespace).UpdateStatus(ctx, &claim, metav1.UpdateOptions{}); err != nil {
			return err
		}
	}
	return nil
}

func newVolumesCommand() *cobra.Command {
	var kubeconfig, root string
	command := &cobra.Command{
		Use:   "volumes",
		Short: "Makes and grows the cluster's local volumes",
		RunE: func(command *cobra.Command, _ []string) error {
			config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
			if err != nil {
				return err
			}
			client, err := kubernetes.NewForConfig(config)
			if err != nil {
				return err
			}
			ctx := command.Context()
			go func() {
				for {
					if err := grow(ctx, client); err != nil {
						klog.ErrorS(err, "Claims could not grow")
					}
					time.Sleep(2 * time.Second)
				}
			}()
			controller.NewProvisionController(ctx, client, provisionerName, &folders{filepath.Clean(root)},
				controller.LeaderElection(false)).Run(ctx)
			return nil
		},
	}
	command.Flags().StringVar(&kubeconfig, "kubeconfig", "", "how to reach the API server")
	command.Flags().StringVar(&root, "root", "", "the folder that holds all volumes")
	return command
}
