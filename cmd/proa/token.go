package main

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/proa-dev/proa/cluster"
)

func newToken(c *common) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "token",
		Short: "Tokens with which further machines join",
	}
	var ttl time.Duration
	var server forServers
	create := &cobra.Command{
		Use:   "create",
		Short: "Create a join token and print it",
		Long: `Create a join token and print it. It carries the fingerprint of the cluster's CA, so the
joining machine knows the server before it sends anything, and it expires.

With --server it lets machines join as further servers. They get all keys of the cluster:
such a token is worth as much as the administrator's kubeconfig, for the hour that it is valid.`,
		Example: `  proa token create
  proa token create --server`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if ttl <= 0 || ttl > 365*24*time.Hour {
				return &flagError{"ttl", ttl.String(), "more than 0 and at most 8760h"}
			}
			if bool(server) && !cmd.Flags().Changed("ttl") {
				ttl = time.Hour
			}
			place, err := c.place()
			if err != nil {
				return notHere(c.name, err)
			}
			token, err := cluster.CreateToken(cmd.Context(), place, ttl, bool(server))
			if err != nil {
				return err
			}
			if server {
				address, err := cluster.ServerAddress(place)
				if err != nil {
					return err
				}
				fmt.Fprintf(cmd.ErrOrStderr(), "On the machine that becomes a server, within %s:\n\n  PROA_TOKEN=TOKEN proa up --server %s\n\n", ttl, address)
			}
			_, err = fmt.Fprintln(cmd.OutOrStdout(), token)
			return err
		},
	}
	create.Flags().DurationVar(&ttl, "ttl", 24*time.Hour, "how long the token is valid (with --server: 1h)")
	create.Flags().Var(&server, "server", "for machines that become servers too, not only nodes")
	create.Flags().Lookup("server").NoOptDefVal = "true"
	cmd.AddCommand(create)
	return cmd
}

// forServers is a flag without a value. An address, which settings of the same name have for
// other commands, leaves it as it is.
type forServers bool

func (f *forServers) String() string   { return strconv.FormatBool(bool(*f)) }
func (f *forServers) Type() string     { return "bool" }
func (f *forServers) IsBoolFlag() bool { return true }

func (f *forServers) Set(value string) error {
	if strings.HasPrefix(value, "https://") {
		return nil
	}
	on, err := strconv.ParseBool(value)
	*f = forServers(on)
	return err
}
