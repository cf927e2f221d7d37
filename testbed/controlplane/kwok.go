package main

import (
	"context"
	"fmt"
	"os"

	"github.com/spf13/pflag"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/rest"
	"k8s.io/utils/clock"
	"sigs.k8s.io/kwok/pkg/apis/internalversion"
	"sigs.k8s.io/kwok/pkg/client/clientset/versioned"
	kwokconfig "sigs.k8s.io/kwok/pkg/config"
	"sigs.k8s.io/kwok/pkg/kwok/controllers"
	"sigs.k8s.io/kwok/pkg/kwok/server"
	kwoklog "sigs.k8s.io/kwok/pkg/log"
	"sigs.k8s.io/kwok/pkg/utils/client"
	"sigs.k8s.io/kwok/pkg/utils/gotpl"
	"sigs.k8s.io/kwok/pkg/utils/signals"
	utilsslices "sigs.k8s.io/kwok/pkg/utils/slices"
)

// kwok is KWOK's own controller and server with one thing added, which a kubelet does and KWOK cannot: Stages can ask, by
// the template function MissingMount, whether what a pod mounts is there. All other settings come from --config alone.
func kwok() int {
	flags := pflag.NewFlagSet("kwok", pflag.ContinueOnError)
	flags.ParseErrorsAllowlist.UnknownFlags = true // each of the two readers below knows only its own
	kubeconfig := flags.String("kubeconfig", "", "the API server and who we are to it")
	ctx, _ := kwoklog.InitFlags(signals.SetupSignalContext(), flags)
	ctx, err := kwokconfig.InitFlags(ctx, flags)
	if err == nil {
		err = runKwok(ctx, *kubeconfig, kwokconfig.GetKwokConfiguration(ctx).Options)
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "kwok: %v\n", err)
		return 1
	}
	return 0
}

func runKwok(ctx context.Context, kubeconfig string, options internalversion.KwokConfigurationOptions) error {
	id, err := controllers.Identity()
	if err != nil {
		return err
	}
	clients, err := client.NewClientset("", kubeconfig)
	if err != nil {
		return err
	}
	config, err := clients.ToRESTConfig()
	if err != nil {
		return err
	}
	dynamicClient, err := clients.ToDynamicClient()
	if err != nil {
		return err
	}
	mapper, err := clients.ToRESTMapper()
	if err != nil {
		return err
	}
	restClient, err := rest.RESTClientFor(config)
	if err != nil {
		return err
	}
	typedClient, err := kubernetes.NewForConfig(config)
	if err != nil {
		return err
	}
	kwokClient, err := versioned.NewForConfig(config)
	if err != nil {
		return err
	}
	mounts, err := newMounts(ctx, config)
	if err != nil {
		return err
	}
	stages := kwokconfig.FilterWithTypeFromContext[*internalversion.Stage](ctx)
	controller, err := controllers.NewController(controllers.Config{
		Clock:                             clock.RealClock{},
		DynamicClient:                     dynamicClient,
		RESTClient:                        restClient,
		RESTMapper:                        mapper,
		TypedClient:                       typedClient,
		TypedKwokClient:                   kwokClient,
		ManageNodesWithAnnotationSelector: options.ManageNodesWithAnnotationSelector,
		CIDR:                              options.CIDR,
		NodeIP:                            options.NodeIP,
		NodePort:                          options.NodePort,
		PodPlayStageParallelism:           options.PodPlayStageParallelism,
		NodePlayStageParallelism:          options.NodePlayStageParallelism,
		PodsOnNodeSyncParallelism:         options.PodsOnNodeSyncParallelism,
		EnablePodsOnNodeSyncListPager:     true,
		ID:                                id,
		LocalStages: utilsslices.GroupBy(stages, func(stage *internalversion.Stage) internalversion.StageResourceRef {
			return stage.Spec.ResourceRef
		}),
		FuncMap: gotpl.FuncMap{"MissingMount": mounts.missing},
	})
	if err != nil {
		return err
	}
	if err := controller.Start(ctx); err != nil {
		return err
	}
	kubelet, err := server.NewServer(server.Config{
		TypedKwokClient: kwokClient,
		EnableCRDs:      options.EnableCRDs,
		DataSource:      controller,
		NodeCacheGetter: controller.GetNodeCache(),
		PodCacheGetter:  controller.GetPodCache(),
	})
	if err != nil {
		return err
	}
	kubelet.InstallHealthz()
	kubelet.InstallDebuggingHandlers() // this is what serves logs
	if err := kubelet.InstallCRD(ctx); err != nil {
		return err
	}
	return kubelet.Run(ctx, options.ServerAddress, options.TLSCertFile, options.TLSPrivateKeyFile)
}

// mounts knows which of the ConfigMaps and Secrets that a pod mounts are there.
type mounts struct {
	ctx    context.Context
	client metadata.Interface
}

func newMounts(ctx context.Context, config *rest.Config) (*mounts, error) {
	metadataClient, err := metadata.NewForConfig(config)
	if err != nil {
		return nil, err
	}
	return &mounts{ctx, metadataClient}, nil
}

// missing names the first object that must be there for these volumes and is not, such as `ConfigMap items`; empty if all
// are. As with a kubelet, a volume that is marked optional needs nothing.
func (m *mounts) missing(namespace string, volumes any) (string, error) {
	listed, _ := volumes.([]any)
	for _, each := range listed {
		volume, _ := each.(map[string]any)
		for kind, source := range map[string]string{"ConfigMap": "configMap", "Secret": "secret"} {
			from, mounted := volume[source].(map[string]any)
			if !mounted || from["optional"] == true {
				continue
			}
			name, resource := from["name"], "configmaps"
			if kind == "Secret" {
				name, resource = from["secretName"], "secrets"
			}
			text, _ := name.(string)
			there, err := m.exists(namespace, resource, text)
			if err != nil {
				return "", err
			}
			if !there {
				return kind + " " + text, nil
			}
		}
	}
	return "", nil
}

// exists asks the API server's cache first, which costs it little. What is not in the cache yet may be there all the same.
func (m *mounts) exists(namespace, resource, name string) (bool, error) {
	client := m.client.Resource(schema.GroupVersionResource{Version: "v1", Resource: resource}).Namespace(namespace)
	for _, version := range []string{"0", ""} {
		_, err := client.Get(m.ctx, name, metav1.GetOptions{ResourceVersion: version})
		if err == nil {
			return true, nil
		}
		if !apierrors.IsNotFound(err) {
			return false, err
		}
	}
	return false, nil
}
