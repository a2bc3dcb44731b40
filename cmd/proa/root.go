package main

import (
	"log/slog"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/proa-dev/proa/cluster"
	"github.com/proa-dev/proa/internal/settings"
)

// common is what every command knows.
type common struct {
	name     string
	dataRoot string
	runRoot  string
	etcRoot  string
	logLevel string
	config   string
}

func (c *common) roots() cluster.Roots {
	return cluster.Roots{Data: c.dataRoot, Run: c.runRoot, Config: c.etcRoot}
}

func (c *common) place() (*cluster.Place, error) { return cluster.FindPlace(c.roots(), c.name) }

// logger writes structured lines to standard error.
func (c *common) logger() (*slog.Logger, error) {
	var level slog.Level
	if err := level.UnmarshalText([]byte(c.logLevel)); err != nil {
		return nil, &flagError{"log-level", c.logLevel, "debug, info, warn or error"}
	}
	return slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: level})), nil
}

type flagError struct{ flag, value, allowed string }

func (e *flagError) Error() string {
	return "--" + e.flag + " " + e.value + ": must be " + e.allowed
}

func newRoot() *cobra.Command {
	c := &common{}
	root := &cobra.Command{
		Use:   "proa",
		Short: "Kubernetes in one binary",
		Long: `proa is Kubernetes in one binary: one command makes a cluster on this machine, others
make it grow.

  proa up                 start a cluster and wait until it is ready
  proa up --nodes 3       the same with three nodes, each in a network namespace
  proa kubectl get pods   use it
  proa down               stop it and put the machine back

Every flag can also be set in the environment (--https-port as PROA_HTTPS_PORT) or in
/etc/proa/config.yaml (https-port: 6443).`,
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	flags := root.PersistentFlags()
	flags.StringVar(&c.name, "name", cluster.DefaultName, "name of the cluster; several live side by side on one machine")
	flags.StringVar(&c.dataRoot, "data-root", cluster.DefaultRoots.Data, "folder that holds the clusters' data")
	flags.StringVar(&c.runRoot, "run-root", cluster.DefaultRoots.Run, "folder for sockets")
	flags.StringVar(&c.etcRoot, "config-root", cluster.DefaultRoots.Config, "folder of configuration and kubeconfigs")
	flags.StringVar(&c.logLevel, "log-level", "info", "what is logged: debug, info, warn or error")
	flags.StringVar(&c.config, "config", "", "settings file (default config.yaml in the configuration folder)")
	root.AddCommand(
		newUp(c), newDown(c), newServer(c), newAgent(c), newToken(c), newMember(c), newUser(c), newCert(c), newSecrets(c), newWhyDenied(c),
		newStatus(c), newKubectl(c), newKubeconfig(c), newImage(c), newVersion(), newUninstall(c), newContainerd(),
	)
	root.PersistentPreRunE = func(cmd *cobra.Command, _ []string) error {
		if cmd.DisableFlagParsing {
			return nil
		}
		file := c.config
		if file == "" {
			file = filepath.Join(c.etcRoot, "config.yaml")
		}
		return settings.Apply(cmd.Flags(), file, os.LookupEnv, allFlags(root))
	}
	return root
}

// allFlags are the names of the flags of all commands: what a settings file may hold.
func allFlags(root *cobra.Command) map[string]bool {
	known := map[string]bool{}
	note := func(f *pflag.Flag) { known[f.Name] = true }
	root.PersistentFlags().VisitAll(note)
	for _, cmd := range root.Commands() {
		cmd.Flags().VisitAll(note)
	}
	return known
}
