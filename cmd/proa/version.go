package main

import (
	"fmt"
	"runtime"

	"github.com/spf13/cobra"

	"github.com/proa-dev/proa/cluster"
)

func newVersion() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the versions of proa and of the Kubernetes API it serves",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			v := cluster.Version()
			_, err := fmt.Fprintf(cmd.OutOrStdout(), "proa %s (Kubernetes API %s, %s, %s/%s)\n",
				cluster.ProaVersion, v.GitVersion, v.GoVersion, runtime.GOOS, runtime.GOARCH)
			return err
		},
	}
}
