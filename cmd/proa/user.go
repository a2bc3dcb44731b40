package main

import (
	"fmt"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/proa-dev/proa/cluster"
)

func newUser(c *common) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "user",
		Short: "People and robots that use the cluster with a certificate",
	}
	cmd.AddCommand(newUserCreate(c), newUserList(c), newUserRevoke(c))
	return cmd
}

func newUserCreate(c *common) *cobra.Command {
	var groups []string
	var life time.Duration
	var out string
	cmd := &cobra.Command{
		Use:   "create NAME",
		Short: "Give a user a certificate and print a kubeconfig with it",
		Long: `Give a user a certificate and print a kubeconfig with it. The user may do nothing until a
role is bound to its name or to one of its groups:

  proa user create ann --group devs > ann.kubeconfig
  proa kubectl create rolebinding devs --clusterrole=edit --group=devs -n shop

A user that was revoked and is created again may come in with the new certificate only.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if life < 10*time.Minute || life > 365*24*time.Hour {
				return &flagError{"life", life.String(), "between 10m and 8760h"}
			}
			p, err := c.place()
			if err != nil {
				return notHere(c.name, err)
			}
			config, err := cluster.CreateUser(cmd.Context(), p, args[0], groups, life)
			if err != nil {
				return err
			}
			if out != "" {
				return os.WriteFile(out, config, 0o600)
			}
			_, err = cmd.OutOrStdout().Write(config)
			return err
		},
	}
	cmd.Flags().StringSliceVar(&groups, "group", nil, "groups of the user")
	cmd.Flags().DurationVar(&life, "life", 90*24*time.Hour, "how long the certificate is valid")
	cmd.Flags().StringVarP(&out, "output", "o", "", "write the kubeconfig to this file, readable by its owner alone")
	return cmd
}

func newUserList(c *common) *cobra.Command {
	return &cobra.Command{
		Use:   "list",
		Short: "List the users that were created or revoked",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			p, err := c.place()
			if err != nil {
				return notHere(c.name, err)
			}
			users, err := cluster.Users(cmd.Context(), p)
			if err != nil {
				return err
			}
			w := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 8, 3, ' ', 0)
			fmt.Fprintln(w, "NAME\tGROUPS\tCREATED\tEXPIRES\tREVOKED")
			for _, u := range users {
				fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", u.User, strings.Join(u.Groups, ","), day(u.Made.Time), day(u.Expires.Time), day(u.Revoked.Time))
			}
			return w.Flush()
		},
	}
}

func day(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return t.Local().Format("2006-01-02 15:04")
}

func newUserRevoke(c *common) *cobra.Command {
	return &cobra.Command{
		Use:   "revoke NAME",
		Short: "Refuse all certificates that a user has, from now on",
		Long: `Refuse all certificates that a user has, from now on: connections that are open end with
all that runs on them, and further requests are answered with 401. Role bindings of the user
stay.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			p, err := c.place()
			if err != nil {
				return notHere(c.name, err)
			}
			if err := cluster.RevokeUser(cmd.Context(), p, args[0]); err != nil {
				return err
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "The certificates of %q are refused from now on.\n", args[0])
			return err
		},
	}
}
