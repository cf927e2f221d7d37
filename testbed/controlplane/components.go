package main

import (
	"fmt"
	"os"

	"go.etcd.io/etcd/server/v3/etcdmain"
	_ "k8s.io/client-go/plugin/pkg/client/auth" // kubectl's ways to log in
	"k8s.io/component-base/cli"
	"k8s.io/component-base/logs"
	kubectlcmd "k8s.io/kubectl/pkg/cmd"
	kubectlutil "k8s.io/kubectl/pkg/cmd/util"
	apiserverapp "k8s.io/kubernetes/cmd/kube-apiserver/app"
	managerapp "k8s.io/kubernetes/cmd/kube-controller-manager/app"
	schedulerapp "k8s.io/kubernetes/cmd/kube-scheduler/app"
	"sigs.k8s.io/kwok/kustomize/crd"
)

// The mains of etcd and of Kubernetes, as they stand upstream.

func etcd() int {
	etcdmain.Main(os.Args)
	return 0
}

func apiserver() int { return cli.Run(apiserverapp.NewAPIServerCommand()) }

func controllerManager() int { return cli.Run(managerapp.NewControllerManagerCommand()) }

func scheduler() int { return cli.Run(schedulerapp.NewSchedulerCommand()) }

func kubectl() int {
	// The verbosity counts while the command is being built already, which cli.Run would only see afterwards.
	_, _ = logs.GlogSetter(kubectlcmd.GetLogVerbosity(os.Args))
	if err := cli.RunNoErrOutput(kubectlcmd.NewDefaultKubectlCommand()); err != nil {
		kubectlutil.CheckErr(err)
	}
	return 0
}

// logsDefinition prints the definition of KWOK's Logs resource, which says what a pod has written. It belongs to KWOK's
// version, so that it is taken from there and not copied.
func logsDefinition() int {
	if _, err := os.Stdout.Write(crd.Logs); err != nil {
		fmt.Fprintf(os.Stderr, "logs-definition: %v\n", err)
		return 1
	}
	return 0
}
