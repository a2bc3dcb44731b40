package main

import (
	"fmt"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/proa-dev/proa/cluster"
)

func newCert(c *common) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "cert",
		Short: "The cluster's certificates on this machine",
		Long: `The cluster's certificates on this machine. They are renewed at two thirds of their life,
without a restart; nobody has to rotate them.`,
	}
	cmd.AddCommand(&cobra.Command{
		Use:   "list",
		Short: "List certificates and when they expire",
		Args:  cobra.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return listCerts(cmd, c) },
	}, &cobra.Command{
		Use:   "rotate",
		Short: "Have the server make its certificates and the administrator's kubeconfig anew, now",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			p, err := c.place()
			if err != nil {
				return notHere(c.name, err)
			}
			if err := cluster.RotateCertificates(p); err != nil {
				return err
			}
			_, err = fmt.Fprintln(cmd.OutOrStdout(), "The server makes its certificates anew; the authorities stay.")
			return err
		},
	})
	return cmd
}

func listCerts(cmd *cobra.Command, c *common) error {
	p, err := c.place()
	if err != nil {
		return notHere(c.name, err)
	}
	certs, err := cluster.Certificates(p)
	if err != nil {
		return err
	}
	w := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 8, 3, ' ', 0)
	fmt.Fprintln(w, "FILE\tSUBJECT\tISSUER\tEXPIRES\tLEFT")
	for _, cert := range certs {
		file := strings.TrimPrefix(cert.Path, p.Dir()+"/")
		if cert.Err != nil {
			fmt.Fprintf(w, "%s\t%v\n", file, cert.Err)
			continue
		}
		left := "expired"
		if d := time.Until(cert.Cert.NotAfter); d > 0 {
			left = fmt.Sprintf("%dd", int(d.Hours()/24))
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", file, cert.Cert.Subject.CommonName, cert.Cert.Issuer.CommonName, day(cert.Cert.NotAfter), left)
	}
	return w.Flush()
}
