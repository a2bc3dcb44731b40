package main

import (
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"k8s.io/cli-runtime/pkg/genericclioptions"
	"k8s.io/cli-runtime/pkg/genericiooptions"
	"k8s.io/component-base/logs"
	kubectl "k8s.io/kubectl/pkg/cmd"
	"k8s.io/kubectl/pkg/cmd/plugin"
	cmdutil "k8s.io/kubectl/pkg/cmd/util"
)

func newKubectl(c *common) *cobra.Command {
	return &cobra.Command{
		Use:   "kubectl [kubectl's arguments]",
		Short: "kubectl, connected to the cluster of this machine",
		Long: `kubectl 1.37, built in. Without --kubeconfig or KUBECONFIG it finds the cluster of this
machine by itself. For a cluster with another name: PROA_NAME=x proa kubectl ...`,
		DisableFlagParsing: true,
		RunE: func(cmd *cobra.Command, args []string) error {
			// kubectl ends the process on errors, also from goroutines of its own (cp), which no
			// panic would lead back to main.
			cmdutil.BehaviorOnFatal(func(message string, code int) {
				if message = strings.TrimRight(message, "\n"); message != "" {
					fmt.Fprintln(os.Stderr, message)
				}
				logs.FlushLogs()
				os.Exit(code)
			})
			if err := c.findKubeconfig(); err != nil {
				return err
			}
			logs.InitLogs()
			defer logs.FlushLogs()
			k := kubectl.NewDefaultKubectlCommandWithArgs(kubectl.KubectlOptions{
				PluginHandler: kubectl.NewDefaultPluginHandler(plugin.ValidPluginFilenamePrefixes),
				Arguments:     append([]string{"kubectl"}, args...),
				ConfigFlags:   genericclioptions.NewConfigFlags(true).WithDeprecatedPasswordFlag().WithDiscoveryBurst(300).WithDiscoveryQPS(50),
				IOStreams:     genericiooptions.IOStreams{In: os.Stdin, Out: os.Stdout, ErrOut: os.Stderr},
			})
			logs.AddFlags(k.PersistentFlags()) // -v
			k.SetArgs(args)
			if err := k.ExecuteContext(cmd.Context()); err != nil {
				cmdutil.CheckErr(err)
			}
			return nil
		},
	}
}

// findKubeconfig points kubectl to this machine's cluster unless the user pointed it
// elsewhere.
func (c *common) findKubeconfig() error {
	if os.Getenv("KUBECONFIG") != "" {
		return nil
	}
	if name, ok := os.LookupEnv("PROA_NAME"); ok {
		c.name = name
	}
	p, err := c.place()
	if err != nil {
		return nil // no cluster here: kubectl's own default applies
	}
	if _, err := os.ReadFile(p.Kubeconfig()); err != nil {
		if os.IsPermission(err) {
			return fmt.Errorf("%s is readable by root alone: use sudo, or copy it with 'sudo proa kubeconfig > ~/.kube/config'", p.Kubeconfig())
		}
		return nil
	}
	return os.Setenv("KUBECONFIG", p.Kubeconfig())
}
