// Package compliance judges an appliance by rules, resource by resource. Rules that AWS Config has keep their names there;
// the others are about what AWS takes care of itself.
//
// It is pure: it is told how things are, and says COMPLIANT or NON_COMPLIANT and why. What can't be known is not
// compliant.
package compliance
