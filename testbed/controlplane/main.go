// Command controlplane is a Kubernetes control plane in one file: etcd, kube-apiserver, kube-controller-manager,
// kube-scheduler, kubectl and KWOK, unmodified, each behind its own name. One link instead of six saves minutes of
// building and half a gigabyte of files.
//
// The name is taken from the program's own (a link called kubectl is kubectl), else from the first argument. It knows
// nothing of how a control plane is put together; that is decided by whoever starts it.
package main

import (
	"fmt"
	"os"
	"path/filepath"
	"sort"
	"strings"
	_ "time/tzdata" // time zones of CronJobs, as in the components' own mains

	_ "k8s.io/component-base/logs/json/register"          // --logging-format=json
	_ "k8s.io/component-base/metrics/prometheus/clientgo" // metrics of the API clients
	_ "k8s.io/component-base/metrics/prometheus/version"  // the version as a metric
)

// Each program runs with os.Args as if it were alone, and ends the process itself or returns its exit code.
var programs = map[string]func() int{
	"etcd":                    etcd,
	"kube-apiserver":          apiserver,
	"kube-controller-manager": controllerManager,
	"kube-scheduler":          scheduler,
	"kubectl":                 kubectl,
	"kwok":                    kwok,
	"certificates":            certificates,
	"logs-definition":         logsDefinition,
}

func main() {
	dieWithParent()
	name := filepath.Base(os.Args[0])
	if _, known := programs[name]; !known && len(os.Args) > 1 {
		name = os.Args[1]
		os.Args = os.Args[1:]
	}
	run, known := programs[name]
	if !known {
		names := make([]string, 0, len(programs))
		for each := range programs {
			names = append(names, each)
		}
		sort.Strings(names)
		fmt.Fprintf(os.Stderr, "usage: controlplane PROGRAM [ARGUMENT]...\nprograms: %s\n", strings.Join(names, ", "))
		os.Exit(2)
	}
	os.Exit(run())
}
