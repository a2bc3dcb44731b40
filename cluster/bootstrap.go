package cluster

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/client-go/kubernetes"

	"github.com/proa-dev/proa/apis/scheduling"
	"github.com/proa-dev/proa/internal/localpath"
)

// dnsAddress and apiAddress are where a service range keeps the two services that every
// cluster has: the first address and the tenth, as everywhere.
func apiAddress(services netip.Prefix) netip.Addr { return nthAddress(services, 1) }
func dnsAddress(services netip.Prefix) netip.Addr { return nthAddress(services, 10) }

// bootstrapNamespaces are made at the first start, before anything else is.
var bootstrapNamespaces = []string{metav1.NamespaceSystem, metav1.NamespaceDefault, metav1.NamespacePublic, corev1.NamespaceNodeLease}

// bootstrap makes the objects that every cluster has, those that are missing.
func bootstrap(ctx context.Context, client kubernetes.Interface, cfg *ServerConfig, log *slog.Logger) error {
	if err := firstClass(ctx, client); err != nil {
		return err
	}
	for _, name := range bootstrapNamespaces {
		ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}
		_, err := client.CoreV1().Namespaces().Create(ctx, ns, metav1.CreateOptions{})
		if err := made(err); err != nil {
			return fmt.Errorf("create namespace %s: %w", name, err)
		}
	}
	for _, class := range scheduling.System() {
		_, err := client.SchedulingV1().PriorityClasses().Create(ctx, class, metav1.CreateOptions{})
		if err := made(err); err != nil {
			return fmt.Errorf("create priority class %s: %w", class.Name, err)
		}
	}
	services := &networkingv1.ServiceCIDR{ObjectMeta: metav1.ObjectMeta{Name: "kubernetes"}, Spec: networkingv1.ServiceCIDRSpec{CIDRs: []string{cfg.ServiceCIDR.String()}}}
	if _, err := client.NetworkingV1().ServiceCIDRs().Create(ctx, services, metav1.CreateOptions{}); made(err) != nil {
		return fmt.Errorf("create service range: %w", err)
	}
	for _, s := range []*corev1.Service{apiService(cfg), dnsService(cfg)} {
		_, err := client.CoreV1().Services(s.Namespace).Create(ctx, s, metav1.CreateOptions{})
		if err := made(err); err == nil {
			continue
		}
		holder, findErr := holderOf(ctx, client, s.Spec.ClusterIP)
		if findErr != nil || holder == "" {
			return fmt.Errorf("create service %s: %w", s.Name, errors.Join(err, findErr))
		}
		log.Error("a service that every cluster has is missing, since its address is another's; make that one anew without it",
			"service", s.Namespace+"/"+s.Name, "address", s.Spec.ClusterIP, "other", holder)
	}
	if err := publishFacts(ctx, client, cfg); err != nil {
		return err
	}
	slice, endpoints := apiEndpoints(cfg)
	_, sliceErr := client.DiscoveryV1().EndpointSlices(slice.Namespace).Create(ctx, slice, metav1.CreateOptions{})
	_, oldErr := client.CoreV1().Endpoints(endpoints.Namespace).Create(ctx, endpoints, metav1.CreateOptions{})
	if err := errors.Join(made(sliceErr), made(oldErr)); err != nil {
		return fmt.Errorf("create the endpoints of the API: %w", err)
	}
	return nil
}

// nodeRole lets nodes read what every node needs: where services are and how to reach
// the other nodes.
const nodeRole = "system:proa:node"

// metricsRole is part of the roles view, edit and admin, so that whoever may see pods may see
// what they use. Another server of metrics brings it too, and takes it away when it goes.
const metricsRole = "system:aggregated-metrics-reader"

// publishFacts tells joining nodes what they cannot see from objects, and lets them read it.
func publishFacts(ctx context.Context, client kubernetes.Interface, cfg *ServerConfig) error {
	role := &rbacv1.ClusterRole{
		ObjectMeta: metav1.ObjectMeta{Name: nodeRole},
		Rules: []rbacv1.PolicyRule{
			{Verbs: []string{"get", "list", "watch"}, APIGroups: []string{""}, Resources: []string{"nodes", "services", "namespaces"}},
			{Verbs: []string{"get", "list", "watch"}, APIGroups: []string{discoveryv1.GroupName}, Resources: []string{"endpointslices"}},
			{Verbs: []string{"get", "list", "watch"}, APIGroups: []string{networkingv1.GroupName}, Resources: []string{"networkpolicies"}},
			{Verbs: []string{"get"}, APIGroups: []string{""}, Resources: []string{"configmaps"}, ResourceNames: []string{factsName}},
		},
	}
	binding := &rbacv1.ClusterRoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: nodeRole},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: nodeRole},
		Subjects:   []rbacv1.Subject{{APIGroup: rbacv1.GroupName, Kind: "Group", Name: "system:nodes"}},
	}
	known := &corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{Name: factsName, Namespace: metav1.NamespacePublic},
		Data: map[string]string{
			"clusterCIDR": cfg.ClusterCIDR.String(), "serviceCIDR": cfg.ServiceCIDR.String(), "domain": cfg.Domain,
		},
	}
	readers := &rbacv1.ClusterRole{
		ObjectMeta: metav1.ObjectMeta{Name: metricsRole, Labels: map[string]string{
			"rbac.authorization.k8s.io/aggregate-to-view": "true", "rbac.authorization.k8s.io/aggregate-to-edit": "true", "rbac.authorization.k8s.io/aggregate-to-admin": "true",
		}},
		Rules: []rbacv1.PolicyRule{{Verbs: []string{"get", "list", "watch"}, APIGroups: []string{"metrics.k8s.io"}, Resources: []string{"pods", "nodes"}}},
	}
	joins, whoJoins := joinRules()
	_, joinErr := client.RbacV1().ClusterRoles().Create(ctx, joins, metav1.CreateOptions{})
	_, whoErr := client.RbacV1().ClusterRoleBindings().Create(ctx, whoJoins, metav1.CreateOptions{})
	_, roleErr := client.RbacV1().ClusterRoles().Create(ctx, role, metav1.CreateOptions{})
	if apierrors.IsAlreadyExists(roleErr) { // maybe of a version whose nodes read less
		roleErr = updateRole(ctx, client, role)
	}
	_, readErr := client.RbacV1().ClusterRoles().Create(ctx, readers, metav1.CreateOptions{})
	_, bindErr := client.RbacV1().ClusterRoleBindings().Create(ctx, binding, metav1.CreateOptions{})
	_, mapErr := client.CoreV1().ConfigMaps(known.Namespace).Create(ctx, known, metav1.CreateOptions{})
	return errors.Join(made(joinErr), made(whoErr), made(roleErr), made(readErr), made(bindErr), made(mapErr))
}

func updateRole(ctx context.Context, client kubernetes.Interface, want *rbacv1.ClusterRole) error {
	has, err := client.RbacV1().ClusterRoles().Get(ctx, want.Name, metav1.GetOptions{})
	if err != nil || equality.Semantic.DeepEqual(has.Rules, want.Rules) {
		return err
	}
	has = has.DeepCopy()
	has.Rules = want.Rules
	_, err = client.RbacV1().ClusterRoles().Update(ctx, has, metav1.UpdateOptions{})
	return err
}

// firstClass gives a new cluster, one without namespaces yet, a default storage class.
// An administrator who removes it has it removed for good.
func firstClass(ctx context.Context, client kubernetes.Interface) error {
	_, err := client.CoreV1().Namespaces().Get(ctx, metav1.NamespaceSystem, metav1.GetOptions{})
	if !apierrors.IsNotFound(err) {
		return err
	}
	wait, policy, grow := storagev1.VolumeBindingWaitForFirstConsumer, corev1.PersistentVolumeReclaimDelete, true
	_, err = client.StorageV1().StorageClasses().Create(ctx, &storagev1.StorageClass{
		ObjectMeta:  metav1.ObjectMeta{Name: localpath.Class, Annotations: map[string]string{"storageclass.kubernetes.io/is-default-class": "true"}},
		Provisioner: localpath.Provisioner, VolumeBindingMode: &wait, ReclaimPolicy: &policy, AllowVolumeExpansion: &grow,
	}, metav1.CreateOptions{})
	if err := made(err); err != nil {
		return fmt.Errorf("create storage class %s: %w", localpath.Class, err)
	}
	return nil
}

// holderOf is the service with this address, as "namespace/name"; empty if there is none. An
// etcd that another control plane used may have one.
func holderOf(ctx context.Context, client kubernetes.Interface, address string) (string, error) {
	all, err := client.CoreV1().Services(metav1.NamespaceAll).List(ctx, metav1.ListOptions{})
	if err != nil {
		return "", err
	}
	for _, s := range all.Items {
		if slices.Contains(s.Spec.ClusterIPs, address) {
			return s.Namespace + "/" + s.Name, nil
		}
	}
	return "", nil
}

// made passes over what is there already.
func made(err error) error {
	if apierrors.IsAlreadyExists(err) {
		return nil
	}
	return err
}

// apiService is default/kubernetes, under which pods find the API.
func apiService(cfg *ServerConfig) *corev1.Service {
	return &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{
			Name: "kubernetes", Namespace: metav1.NamespaceDefault,
			Labels: map[string]string{"component": "apiserver", "provider": "kubernetes"},
		},
		Spec: corev1.ServiceSpec{
			ClusterIP: apiAddress(cfg.ServiceCIDR).String(),
			Ports:     []corev1.ServicePort{{Name: "https", Protocol: corev1.ProtocolTCP, Port: 443, TargetPort: intstr.FromInt(cfg.HTTPSPort)}},
		},
	}
}

// dnsService is kube-system/kube-dns. Each node answers on its address by itself, so
// proxies leave it alone.
func dnsService(cfg *ServerConfig) *corev1.Service {
	return &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{
			Name: "kube-dns", Namespace: metav1.NamespaceSystem,
			Labels: map[string]string{
				"k8s-app": "kube-dns", "kubernetes.io/cluster-service": "true", "kubernetes.io/name": "CoreDNS",
				"service.kubernetes.io/service-proxy-name": "proa-dns",
			},
		},
		Spec: corev1.ServiceSpec{
			ClusterIP: dnsAddress(cfg.ServiceCIDR).String(),
			Ports: []corev1.ServicePort{
				{Name: "dns", Protocol: corev1.ProtocolUDP, Port: 53, TargetPort: intstr.FromInt(53)},
				{Name: "dns-tcp", Protocol: corev1.ProtocolTCP, Port: 53, TargetPort: intstr.FromInt(53)},
			},
		},
	}
}

// apiEndpoints lead from default/kubernetes to this server.
func apiEndpoints(cfg *ServerConfig) (*discoveryv1.EndpointSlice, *corev1.Endpoints) { //nolint:staticcheck // older clients read it
	name, proto, port, ready := "https", corev1.ProtocolTCP, int32(cfg.HTTPSPort), true
	slice := &discoveryv1.EndpointSlice{
		ObjectMeta: metav1.ObjectMeta{
			Name: "kubernetes", Namespace: metav1.NamespaceDefault,
			Labels: map[string]string{discoveryv1.LabelServiceName: "kubernetes"},
		},
		AddressType: discoveryv1.AddressTypeIPv4,
		Endpoints: []discoveryv1.Endpoint{{
			Addresses: []string{cfg.AdvertiseAddress.String()}, Conditions: discoveryv1.EndpointConditions{Ready: &ready},
		}},
		Ports: []discoveryv1.EndpointPort{{Name: &name, Protocol: &proto, Port: &port}},
	}
	endpoints := &corev1.Endpoints{ //nolint:staticcheck // older clients read it
		ObjectMeta: metav1.ObjectMeta{
			Name: "kubernetes", Namespace: metav1.NamespaceDefault,
			Labels: map[string]string{discoveryv1.LabelSkipMirror: "true"},
		},
		Subsets: []corev1.EndpointSubset{{ //nolint:staticcheck // older clients read it
			Addresses: []corev1.EndpointAddress{{IP: cfg.AdvertiseAddress.String()}},    //nolint:staticcheck // older clients read it
			Ports:     []corev1.EndpointPort{{Name: name, Port: port, Protocol: proto}}, //nolint:staticcheck // older clients read it
		}},
	}
	return slice, endpoints
}

// publishAPI has the endpoints of default/kubernetes lead to where this server is now.
func publishAPI(ctx context.Context, client kubernetes.Interface, cfg *ServerConfig) error {
	slice, endpoints := apiEndpoints(cfg)
	slices := client.DiscoveryV1().EndpointSlices(slice.Namespace)
	now, err := slices.Get(ctx, slice.Name, metav1.GetOptions{})
	if err == nil {
		slice.ResourceVersion = now.ResourceVersion
		_, err = slices.Update(ctx, slice, metav1.UpdateOptions{})
	}
	_, oldErr := client.CoreV1().Endpoints(endpoints.Namespace).Update(ctx, endpoints, metav1.UpdateOptions{})
	if err := errors.Join(err, oldErr); err != nil {
		return fmt.Errorf("write the endpoints of the API: %w", err)
	}
	return nil
}
