package main

import (
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/proa-dev/proa/cluster"
)

// serverFlags are the flags of up and server.
type serverFlags struct {
	cfg                      cluster.ServerConfig
	bind, advertise          string
	clusterCIDR, serviceCIDR string
	node                     nodeFlags
	reloadKeys, balancers    bool
}

func (f *serverFlags) register(flags *pflag.FlagSet) {
	flags.StringVar(&f.bind, "bind-address", "0.0.0.0", "address that the API listens on")
	flags.StringVar(&f.advertise, "advertise-address", "", "address under which others reach the API (default: the node's)")
	flags.IntVar(&f.cfg.HTTPSPort, "https-port", 0, "port of the API (default 6443, one more for each further cluster of the machine)")
	flags.StringSliceVar(&f.cfg.TLSNames, "tls-san", nil, "further names or addresses in the API's certificate")
	flags.StringVar(&f.clusterCIDR, "cluster-cidr", "", "range of pod addresses (default: a free 10.x.0.0/16)")
	flags.StringVar(&f.serviceCIDR, "service-cidr", "", "range of service addresses (default: a free 10.x.0.0/16)")
	flags.StringVar(&f.cfg.NodePorts, "service-node-port-range", "", "ports for services of type NodePort (default "+cluster.DefaultNodePortRange+")")
	flags.StringVar(&f.cfg.Domain, "cluster-domain", "", "DNS domain of the cluster (default "+cluster.DefaultDomain+")")
	flags.StringVar(&f.cfg.Join, "server", "", "join the cluster of this server, as a further one (https://HOST:PORT); needed once")
	flags.StringVar(&f.cfg.Token, "token", "", "token of 'proa token create --server'; better given in the environment as PROA_TOKEN")
	flags.IntVar(&f.cfg.PeerPort, "peer-port", 0, "port at which several servers' etcd meet; closed while there is one (default 2380, one more for each further cluster of the machine)")
	flags.BoolVar(&f.cfg.ResetMembers, "reset-members", false, "go on alone with the data of this server: the other servers are lost for good")
	flags.StringVar(&f.cfg.Netns, "network-namespace", "", "network namespace that this process was started in")
	_ = flags.MarkHidden("network-namespace")
	flags.StringSliceVar(&f.cfg.EtcdServers, "etcd-servers", nil, "endpoints of an external etcd (default: the one inside)")
	flags.Var(path{&f.cfg.EncryptionConfig}, "encryption-provider-config", "keys that encrypt objects in etcd, an EncryptionConfiguration (default: one made at the first start, for secrets)")
	flags.BoolVar(&f.reloadKeys, "encryption-provider-config-automatic-reload", true, "read that file again when it changes")
	flags.Var(path{&f.cfg.Audit.Policy}, "audit-policy-file", "what the audit log keeps, a Policy of audit.k8s.io/v1 (default: who wrote what, and who read what of others)")
	flags.Var(path{&f.cfg.Audit.Log}, "audit-log-path", "write the audit log to this file; - for standard output (default: no audit log)")
	flags.IntVar(&f.cfg.Audit.MaxSize, "audit-log-maxsize", 100, "megabytes after which the audit log begins another file")
	flags.IntVar(&f.cfg.Audit.MaxAge, "audit-log-maxage", 0, "days that older files of the audit log are kept (0: without end)")
	flags.IntVar(&f.cfg.Audit.MaxBackups, "audit-log-maxbackup", 0, "how many older files of the audit log are kept (0: all)")
	flags.Var(path{&f.cfg.Audit.Webhook}, "audit-webhook-config-file", "kubeconfig of a server that audit events are sent to")
	flags.StringSliceVar(&f.cfg.EnablePlugins, "enable-admission-plugins", nil, "admission plugins to switch on that are off by default: AlwaysPullImages, DenyServiceExternalIPs, ExtendedResourceToleration, LimitPodHardAntiAffinityTopology, PodNodeSelector")
	flags.StringSliceVar(&f.cfg.DisablePlugins, "disable-admission-plugins", nil, "admission plugins to switch off, such as DefaultStorageClass")
	flags.Var(path{&f.cfg.AdmissionConfig}, "admission-control-config-file", "settings of admission plugins, an AdmissionConfiguration: PodSecurity, PodNodeSelector")
	flags.Var(&f.cfg.Gates, "feature-gates", "features to switch on or off: "+cluster.GateHelp())
	flags.DurationVar(&f.cfg.NodeGracePeriod, "node-monitor-grace-period", 50*time.Second, "how long a node may be silent before it counts as unreachable")
	flags.BoolVar(&f.balancers, "service-lb", true, "give services of type LoadBalancer addresses of the nodes")
	flags.BoolVar(&f.cfg.Node, "node", true, "run pods in this process too, not only the control plane")
	registerAccess(flags, &f.cfg.Access)
	f.node.register(flags)
}

// config reads the flags; place is filled in by the caller.
func (f *serverFlags) config() (cluster.ServerConfig, error) {
	cfg := f.cfg
	cfg.KeepEncryption, cfg.NoServiceLB = !f.reloadKeys, !f.balancers
	if cfg.Join != "" && !strings.HasPrefix(cfg.Join, "https://") {
		return cfg, &flagError{"server", cfg.Join, "https://HOST:PORT"}
	}
	var err error
	if cfg.BindAddress, err = address("bind-address", f.bind); err != nil {
		return cfg, err
	}
	if cfg.AdvertiseAddress, err = address("advertise-address", f.advertise); err != nil {
		return cfg, err
	}
	if cfg.ClusterCIDR, err = prefix("cluster-cidr", f.clusterCIDR); err != nil {
		return cfg, err
	}
	if cfg.ServiceCIDR, err = prefix("service-cidr", f.serviceCIDR); err != nil {
		return cfg, err
	}
	for name, n := range map[string]int{"audit-log-maxsize": cfg.Audit.MaxSize, "audit-log-maxage": cfg.Audit.MaxAge, "audit-log-maxbackup": cfg.Audit.MaxBackups} {
		if n < 0 {
			return cfg, &flagError{name, fmt.Sprint(n), "0 or more"}
		}
	}
	cfg.NodeConfig, err = f.node.config()
	return cfg, err
}

// nodeFlags are the flags of every process that is a node.
type nodeFlags struct {
	cfg cluster.NodeConfig
	ip  string
}

func (f *nodeFlags) register(flags *pflag.FlagSet) {
	flags.StringVar(&f.cfg.Name, "node-name", "", "name of the node (default: the host's name)")
	flags.StringVar(&f.ip, "node-ip", "", "address of the node (default: that of the default route)")
	flags.StringSliceVar(&f.cfg.Labels, "node-label", nil, "labels that the node registers with (key=value)")
	flags.StringSliceVar(&f.cfg.Taints, "node-taint", nil, "taints that the node registers with (key=value:effect)")
	flags.StringVar(&f.cfg.CloudProvider, "cloud-provider", "", "external: the controller manager of a cloud initializes nodes and serves load balancers (default: none)")
	flags.StringVar(&f.cfg.ProviderID, "provider-id", "", "what the cloud calls the node (default: its controller manager finds out)")
	flags.StringVar(&f.cfg.Runtime, "container-runtime-endpoint", "", "CRI socket of a container runtime (default: the containerd inside)")
	flags.IntVar(&f.cfg.MaxPods, "max-pods", 110, "how many pods the node takes")
	flags.IntVar(&f.cfg.KubeletPort, "kubelet-port", 0, "port of the kubelet's API (default 10250)")
}

func (f *nodeFlags) config() (cluster.NodeConfig, error) {
	cfg := f.cfg
	var err error
	cfg.IP, err = address("node-ip", f.ip)
	if err == nil && cfg.CloudProvider != "" && cfg.CloudProvider != "external" {
		err = &flagError{"cloud-provider", cfg.CloudProvider, "external, or nothing"}
	}
	if err == nil && cfg.MaxPods < 1 {
		err = &flagError{"max-pods", fmt.Sprint(cfg.MaxPods), "at least 1"}
	}
	return cfg, err
}

func address(flag, value string) (netip.Addr, error) {
	if value == "" {
		return netip.Addr{}, nil
	}
	a, err := netip.ParseAddr(value)
	if err != nil {
		return a, &flagError{flag, value, "an IP address such as 192.168.1.10"}
	}
	return a, nil
}

func prefix(flag, value string) (netip.Prefix, error) {
	if value == "" {
		return netip.Prefix{}, nil
	}
	p, err := netip.ParsePrefix(value)
	if err != nil || p.Masked() != p {
		return p, &flagError{flag, value, "a range such as 10.42.0.0/16"}
	}
	return p, nil
}

func newServer(c *common) *cobra.Command {
	f := &serverFlags{}
	var progress string
	cmd := &cobra.Command{
		Use:   "server",
		Short: "Run a server in the foreground: the control plane and, unless --node=false, a node",
		Long: `Run a server in the foreground. 'proa up' does the same in the background and waits
until it is ready. Stopping it stops no container: started again, it takes over what runs.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			log, err := c.logger()
			if err != nil {
				return err
			}
			cfg, err := f.config()
			if err != nil {
				return err
			}
			if cfg.Place, err = cluster.ClaimPlace(c.roots(), c.name, cluster.RangeInUse); err != nil {
				return err
			}
			steps, err := cluster.NewProgress(progress, processStart())
			if err != nil {
				return err
			}
			err = cluster.RunServer(cmd.Context(), cfg, log, steps)
			if err != nil {
				steps.Failed(err)
			}
			return err
		},
	}
	f.register(cmd.Flags())
	cmd.Flags().StringVar(&progress, "progress-file", "", "note the steps of the start in this file")
	_ = cmd.Flags().MarkHidden("progress-file")
	return cmd
}
