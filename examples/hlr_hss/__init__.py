"""A connector that provisions subscribers of a mobile core in its HLR/HSS."""
