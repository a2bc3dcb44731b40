// Command shim is containerd's runc shim: one process per pod that owns the pod's
// containers, so that neither proa nor the runtime has to live for a pod to live.
// It is installed as containerd-shim-runc-v2.
package main

import (
	"context"

	"github.com/containerd/containerd/v2/cmd/containerd-shim-runc-v2/manager"
	_ "github.com/containerd/containerd/v2/cmd/containerd-shim-runc-v2/task/plugin" // the task service, which the shim finds by registration
	"github.com/containerd/containerd/v2/pkg/shim"
)

func main() {
	shim.RunShim(context.Background(), manager.NewShimManager("io.containerd.runc.v2"))
}
