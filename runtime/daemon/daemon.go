// Package daemon is containerd, compiled into the proa binary: the child process that
// package runtime starts and watches runs nothing but Main.
//
// The one idea: the container runtime is a library with a process of its own, so that
// restarting proa touches no container and an upgrade is still one file.
//
// Called by the hidden subcommand "proa containerd" alone.
package daemon

import (
	"context"
	"fmt"
	"log/slog"

	"github.com/containerd/containerd/v2/cmd/containerd/command"

	"github.com/proa-dev/proa/internal/memory"
)

// Main runs containerd with containerd's own flags (args excludes the program's name) and
// returns when it was told to end by SIGTERM or SIGINT, or could not start.
func Main(ctx context.Context, args []string) error {
	defer memory.Settle(slog.Default())()
	if err := command.App().Run(ctx, append([]string{"containerd"}, args...)); err != nil {
		return fmt.Errorf("run containerd: %w", err)
	}
	return nil
}
