"""The four ways of saying what shall change about an object. All pure: nothing is done in place."""
