// Command virtualnode is the AKS virtual node add-on: the azure-aci provider on Virtual Kubelet, both unmodified, with
// Azure's API wherever ACI_URL says, which is a stand-in on loopback.
//
// The provider's own main knows three clouds and no other endpoint, so this one puts the same parts together with a
// cloud of its own. Everything else is as in that main: workers, taint, labels, version, SDK retries. It decides nothing
// about pods or groups.
package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/arm"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/cloud"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	armaci "github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/containerinstance/armcontainerinstance/v2"
	"github.com/sirupsen/logrus"
	"github.com/virtual-kubelet/azure-aci/pkg/auth"
	"github.com/virtual-kubelet/azure-aci/pkg/client"
	azureaci "github.com/virtual-kubelet/azure-aci/pkg/provider"
	"github.com/virtual-kubelet/virtual-kubelet/log"
	logruslogger "github.com/virtual-kubelet/virtual-kubelet/log/logrus"
	"github.com/virtual-kubelet/virtual-kubelet/node"
	"github.com/virtual-kubelet/virtual-kubelet/node/api"
	"github.com/virtual-kubelet/virtual-kubelet/node/nodeutil"
	corev1 "k8s.io/api/core/v1"
)

const (
	// kubeletVersion is what the add-on reports, whatever the cluster's own version is.
	kubeletVersion = "v1.25.0-vk-azure-aci-1.6.4"
	// workers is the provider's own number of pods that are worked on at a time.
	workers = 50
	// armHost is in the texts of errors, as on Azure. It is never asked: requests are sent to ACI_URL.
	armHost = "management.azure.com"
)

// toLoopback sends what is meant for Azure to the stand-in. The SDK refuses to send a token over plain HTTP, so the
// scheme is changed here, below it.
type toLoopback struct {
	target *url.URL
	client *http.Client
}

func (t toLoopback) Do(request *http.Request) (*http.Response, error) {
	sent := request.Clone(request.Context())
	sent.URL.Scheme, sent.URL.Host, sent.Host = t.target.Scheme, t.target.Host, t.target.Host
	response, err := t.client.Do(sent)
	if response != nil {
		response.Request = request // errors name the address that was asked for
	}
	return response, err
}

// fixedToken proves an identity to the stand-in.
type fixedToken string

func (f fixedToken) GetToken(context.Context, policy.TokenRequestOptions) (azcore.AccessToken, error) {
	return azcore.AccessToken{Token: string(f), ExpiresOn: time.Now().Add(time.Hour)}, nil
}

func main() {
	dieWithParent()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	ctx = log.WithLogger(ctx, logruslogger.FromLogrus(logrus.NewEntry(logrus.StandardLogger())))
	if err := run(ctx); err != nil && !errors.Is(err, context.Canceled) {
		fmt.Fprintln(os.Stderr, "virtualnode:", err)
		os.Exit(1)
	}
}

func setting(name string) (string, error) {
	if value := os.Getenv(name); value != "" {
		return value, nil
	}
	return "", fmt.Errorf("%s is not set", name)
}

func azure(target *url.URL, token, subscription string) (auth.Config, *client.AzClientsAPIs, error) {
	configuration := cloud.Configuration{
		ActiveDirectoryAuthorityHost: "https://login.invalid/",
		Services: map[cloud.ServiceName]cloud.ServiceConfiguration{
			cloud.ResourceManager: {Endpoint: "https://" + armHost, Audience: "https://" + armHost},
		},
	}
	// The SDK's own retries are left as they are: they are part of how the real one behaves.
	options := &arm.ClientOptions{
		ClientOptions: policy.ClientOptions{
			Cloud:     configuration,
			Transport: toLoopback{target, &http.Client{Timeout: 2 * time.Minute}},
		},
		DisableRPRegistration: true,
	}
	config := auth.Config{
		AuthConfig: auth.NewAuthentication("", "", subscription, "", ""),
		Cloud:      configuration,
	}
	containers, err := armaci.NewContainersClient(subscription, fixedToken(token), options)
	if err != nil {
		return config, nil, err
	}
	groups, err := armaci.NewContainerGroupsClient(subscription, fixedToken(token), options)
	if err != nil {
		return config, nil, err
	}
	locations, err := armaci.NewLocationClient(subscription, fixedToken(token), options)
	if err != nil {
		return config, nil, err
	}
	apis := &client.AzClientsAPIs{ContainersClient: containers, ContainerGroupClient: groups, LocationClient: locations}
	return config, apis, nil
}

func run(ctx context.Context) error {
	values := map[string]string{}
	for _, name := range []string{
		"ACI_URL", "ACI_TOKEN", "ACI_SUBSCRIPTION", "NODE_NAME", "KUBECONFIG", "KUBELET_PORT", "TLS_CERT_FILE", "TLS_KEY_FILE",
	} {
		value, err := setting(name)
		if err != nil {
			return err
		}
		values[name] = value
	}
	target, err := url.Parse(values["ACI_URL"])
	if err != nil || target.Host == "" {
		return fmt.Errorf("ACI_URL %q is no URL", values["ACI_URL"])
	}
	port, err := strconv.ParseInt(values["KUBELET_PORT"], 10, 32)
	if err != nil {
		return fmt.Errorf("KUBELET_PORT %q is no port", values["KUBELET_PORT"])
	}
	config, apis, err := azure(target, values["ACI_TOKEN"], values["ACI_SUBSCRIPTION"])
	if err != nil {
		return err
	}
	kubernetes, err := nodeutil.ClientsetFromEnv(values["KUBECONFIG"])
	if err != nil {
		return err
	}
	name := values["NODE_NAME"]
	made, err := nodeutil.NewNode(name,
		func(cfg nodeutil.ProviderConfig) (nodeutil.Provider, node.NodeProvider, error) {
			provider, err := azureaci.NewACIProvider(ctx, "", config, apis, cfg, name, "Linux", "127.0.0.1", int32(port),
				"cluster.local", kubernetes)
			if err != nil {
				return nil, nil, err
			}
			provider.ConfigureNode(ctx, cfg.Node)
			return provider, nil, nil
		},
		nodeutil.WithClient(kubernetes),
		nodeutil.WithTLSConfig(nodeutil.WithKeyPairFromPath(values["TLS_CERT_FILE"], values["TLS_KEY_FILE"])),
		func(cfg *nodeutil.NodeConfig) error {
			cfg.NodeSpec.Spec.Taints = append(cfg.NodeSpec.Spec.Taints, corev1.Taint{
				Key: "virtual-kubelet.io/provider", Value: "azure", Effect: corev1.TaintEffectNoSchedule,
			})
			cfg.NodeSpec.Status.NodeInfo.KubeletVersion = kubeletVersion
			cfg.InformerResyncPeriod = 0 // as the provider's main has it
			cfg.NumWorkers = workers
			cfg.HTTPListenAddr = "127.0.0.1:" + strconv.FormatInt(port, 10)
			mux := http.NewServeMux()
			cfg.Handler = mux
			if err := nodeutil.AttachProviderRoutes(mux)(cfg); err != nil {
				return err
			}
			cfg.Handler = api.InstrumentHandler(nodeutil.WithAuth(nodeutil.NoAuth(), cfg.Handler)) // its default
			return nil
		},
	)
	if err != nil {
		return err
	}
	ended := make(chan error, 1)
	go func() { ended <- made.Run(ctx) }()
	if err := made.WaitReady(ctx, time.Minute); err != nil {
		return err
	}
	fmt.Println(strings.Join([]string{"virtual node", name, "is ready"}, " "))
	return <-ended
}
