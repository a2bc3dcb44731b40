package core

import (
	"context"
	"fmt"
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/proa-dev/proa/apis/api"
)

type nodePort struct {
	port     int32
	protocol string
}

// reservation collects what was taken and given up, to be able to go back.
type reservation struct {
	env  *api.Env
	undo []func()
}

func (r *reservation) back() {
	for _, f := range slices.Backward(r.undo) {
		f()
	}
}

// reserveService takes the addresses and node ports a service needs beyond those it has,
// and gives up those it no longer needs.
func reserveService(_ context.Context, env *api.Env, s, old *corev1.Service) (func(), error) {
	r := &reservation{env: env}
	if errs := assignFamilies(env, s); len(errs) > 0 {
		return nil, serviceInvalid(s, errs)
	}
	for _, step := range []func(s, old *corev1.Service) error{r.addresses, r.nodePorts, r.healthPort} {
		if err := step(s, old); err != nil {
			r.back()
			return nil, err
		}
	}
	return r.back, nil
}

func serviceInvalid(s *corev1.Service, errs field.ErrorList) error {
	return apierrors.NewInvalid(schema.GroupKind{Kind: "Service"}, s.Name, errs)
}

// heldAddresses are the cluster addresses of a service; none for nil and headless ones.
func heldAddresses(s *corev1.Service) []netip.Addr {
	var list []netip.Addr
	if s == nil || !needsClusterIP(s) {
		return nil
	}
	for _, text := range s.Spec.ClusterIPs {
		if addr, err := netip.ParseAddr(text); err == nil {
			list = append(list, addr)
		}
	}
	return list
}

func (r *reservation) addresses(s, old *corev1.Service) error {
	had := heldAddresses(old)
	if needsClusterIP(s) && !headless(s) {
		if err := r.wantedAddresses(s, had); err != nil {
			return err
		}
	}
	keep := heldAddresses(s)
	for _, addr := range had {
		if !slices.Contains(keep, addr) {
			r.env.Services.Free(addr)
			r.undo = append(r.undo, func() { _ = r.env.Services.Take(addr) }) // lost only to one who took it meanwhile
		}
	}
	return nil
}

func (r *reservation) wantedAddresses(s *corev1.Service, had []netip.Addr) error {
	// One address per family, in the order of the families; more are given up.
	given := s.Spec.ClusterIPs
	if len(given) > len(s.Spec.IPFamilies) {
		given = given[:len(s.Spec.IPFamilies)]
	}
	addresses := make([]string, len(s.Spec.IPFamilies))
	copy(addresses, given)
	for i, family := range s.Spec.IPFamilies {
		if addresses[i] != "" {
			if err := r.takeAddress(s, addresses[i], had); err != nil {
				return err
			}
			continue
		}
		addr, err := r.env.Services.Next(familyNumber(family))
		if err != nil {
			return apierrors.NewInternalError(fmt.Errorf("failed to allocate a serviceIP: %w", err))
		}
		r.undo = append(r.undo, func() { r.env.Services.Free(addr) })
		addresses[i] = addr.String()
	}
	s.Spec.ClusterIPs = addresses
	if len(addresses) > 0 {
		s.Spec.ClusterIP = addresses[0]
	}
	return nil
}

func (r *reservation) takeAddress(s *corev1.Service, text string, had []netip.Addr) error {
	addr, err := netip.ParseAddr(text)
	if err == nil && slices.Contains(had, addr) {
		return nil
	}
	if err == nil {
		err = r.env.Services.Take(addr)
	}
	if err != nil {
		return serviceInvalid(s, field.ErrorList{field.Invalid(field.NewPath("spec", "clusterIPs"), []string{text}, fmt.Sprintf("failed to allocate IP %v: %v", text, err))})
	}
	r.undo = append(r.undo, func() { r.env.Services.Free(addr) })
	return nil
}

// heldPorts are the node ports of a service.
func heldPorts(s *corev1.Service) []nodePort {
	var list []nodePort
	if s == nil {
		return nil
	}
	for _, p := range s.Spec.Ports {
		if p.NodePort != 0 {
			list = append(list, nodePort{p.NodePort, string(p.Protocol)})
		}
	}
	return list
}

func (r *reservation) nodePorts(s, old *corev1.Service) error {
	had := heldPorts(old)
	for i := range s.Spec.Ports {
		p := &s.Spec.Ports[i]
		if p.NodePort == 0 || slices.Contains(had, nodePort{p.NodePort, string(p.Protocol)}) {
			continue
		}
		if err := r.takePort(p.NodePort, string(p.Protocol)); err != nil {
			return serviceInvalid(s, field.ErrorList{field.Invalid(field.NewPath("spec", "ports").Index(i).Child("nodePort"), p.NodePort, err.Error())})
		}
	}
	for i := range s.Spec.Ports {
		if s.Spec.Ports[i].NodePort != 0 || !needsNodePort(s) {
			continue
		}
		if err := r.choosePort(s, i); err != nil {
			return err
		}
	}
	keep := heldPorts(s)
	for _, p := range had {
		if !slices.Contains(keep, p) {
			r.freePort(p)
		}
	}
	return nil
}

// choosePort gives a port the node port of its sibling of another protocol, or a new one.
func (r *reservation) choosePort(s *corev1.Service, i int) error {
	p := &s.Spec.Ports[i]
	for _, other := range s.Spec.Ports {
		if other.Port == p.Port && other.Protocol != p.Protocol && other.NodePort != 0 &&
			r.takePort(other.NodePort, string(p.Protocol)) == nil {
			p.NodePort = other.NodePort
			return nil
		}
	}
	port, err := r.env.Ports.Next(string(p.Protocol))
	if err != nil {
		return apierrors.NewInternalError(fmt.Errorf("failed to allocate a nodePort: %w", err))
	}
	r.undo = append(r.undo, func() { r.env.Ports.Free(port, string(p.Protocol)) })
	p.NodePort = port
	return nil
}

func (r *reservation) takePort(port int32, protocol string) error {
	if err := r.env.Ports.Take(port, protocol); err != nil {
		return err
	}
	r.undo = append(r.undo, func() { r.env.Ports.Free(port, protocol) })
	return nil
}

func (r *reservation) freePort(p nodePort) {
	r.env.Ports.Free(p.port, p.protocol)
	r.undo = append(r.undo, func() { _ = r.env.Ports.Take(p.port, p.protocol) }) // lost only to one who took it meanwhile
}

func (r *reservation) healthPort(s, old *corev1.Service) error {
	const tcp = string(corev1.ProtocolTCP)
	var had int32
	if old != nil {
		had = old.Spec.HealthCheckNodePort
	}
	want := &s.Spec.HealthCheckNodePort
	if needsHealthPort(s) && *want == 0 {
		port, err := r.env.Ports.Next(tcp)
		if err != nil {
			return apierrors.NewInternalError(fmt.Errorf("failed to allocate a HealthCheck NodePort: %w", err))
		}
		*want = port
		r.undo = append(r.undo, func() { r.env.Ports.Free(port, tcp) })
	} else if *want != 0 && *want != had {
		if err := r.takePort(*want, tcp); err != nil {
			return apierrors.NewInternalError(fmt.Errorf("failed to allocate requested HealthCheck NodePort %v: %w", *want, err))
		}
	}
	if had != 0 && had != *want {
		r.freePort(nodePort{had, tcp})
	}
	return nil
}

// claimsOfService are its cluster addresses and node ports.
func claimsOfService(s *corev1.Service) []string {
	var list []string
	for _, addr := range heldAddresses(s) {
		list = append(list, "address/"+addr.String())
	}
	for _, p := range heldPorts(s) {
		list = append(list, fmt.Sprintf("port/%s/%d", p.protocol, p.port))
	}
	if n := s.Spec.HealthCheckNodePort; n != 0 {
		list = append(list, fmt.Sprintf("port/%s/%d", corev1.ProtocolTCP, n))
	}
	return list
}

func releaseService(env *api.Env, s *corev1.Service) {
	for _, addr := range heldAddresses(s) {
		env.Services.Free(addr)
	}
	for _, p := range heldPorts(s) {
		env.Ports.Free(p.port, p.protocol)
	}
	if n := s.Spec.HealthCheckNodePort; n != 0 {
		env.Ports.Free(n, string(corev1.ProtocolTCP))
	}
}
