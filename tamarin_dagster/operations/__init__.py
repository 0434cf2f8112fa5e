"""Operating an installation: the doctor, IAM policies, and everything on one machine (`dev`)."""
